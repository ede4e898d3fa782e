package proxy

import (
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/httprule"
)

// findLeniently finds the target of a request in the ways that clients of grpc-gateway rely on, those of its
// runtime.ServeMux: a form may be sent by POST to what takes GET, X-HTTP-Method-Override names the verb of a form, and an
// encoded slash divides the path where nothing takes it as it is.
func (s *Snapshot) findLeniently(x *wire.Exchange, verb string, vars []string) (*target, []string, bool) {
	form := false
	if verb == "POST" && x.HTTP.Header.Get("content-type") == "application/x-www-form-urlencoded" {
		form = true
		if o := x.HTTP.Header.Get("x-http-method-override"); o != "" {
			verb, form = strings.ToUpper(o), false
		}
	}
	path := x.HTTP.Path
	for {
		if t, vars, ok := match(s.levels, x, verb, path, vars); ok {
			return t, vars, true
		}
		if form {
			if t, vars, ok := match(s.levels, x, "GET", path, vars); ok {
				return t, vars, true
			}
		}
		divided := slashes.Replace(path)
		if divided == path {
			return nil, vars, false
		}
		segs, err := httprule.AppendSegments(nil, divided)
		if err != nil {
			return nil, vars, false
		}
		path, x.Segments = divided, segs
	}
}

var slashes = strings.NewReplacer("%2F", "/", "%2f", "/")

// unmatchedLeniently is the error of a request that no route takes, as clients of grpc-gateway know it.
func unmatchedLeniently(wrongVerb bool) *rpc.Error {
	e := rpc.Refuse(codes.NotFound, "ROUTE_NOT_FOUND", "Not Found")
	if wrongVerb {
		e = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_ALLOWED", "Method Not Allowed")
	}
	e.Bare = true
	return e
}
