package httprule

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
)

func TestRepeatedInPath(t *testing.T) {
	m := method(t, newSchema(t, compileProto(t, `
		syntax = "proto3";
		package r;
		import "google/protobuf/wrappers.proto";
		service S {rpc M(Request) returns (Request);}
		enum Kind {UNKNOWN = 0;}
		message Request {
			repeated string names = 1;
			repeated int64 ids = 2;
			repeated Kind kinds = 3;
			repeated Request parts = 4;
			repeated google.protobuf.StringValue notes = 5;
			map<string, string> labels = 6;
			Request sub = 7;
			repeated bytes tokens = 8;
		}
	`)), "/r.S/M")
	const wanted = "wanted a field that one string can set, found "
	for _, c := range []struct {
		path              string
		strict, permitted string // fault, "" if there is none
	}{
		{"/{names}", wanted + "repeated string", ""},
		{"/{sub.names}/{ids}/{kinds}/{tokens}", wanted + "repeated string", ""},
		{"/{names=a/*}", wanted + "repeated string", ""},
		{"/{parts}", wanted + "repeated message", wanted + "repeated message"},
		{"/{notes}", wanted + "repeated message", wanted + "repeated message"},
		{"/{labels}", wanted + "a map", wanted + "a map"},
		{"/{sub}", wanted + "message r.Request", wanted + "message r.Request"},
	} {
		for o, want := range map[Options]string{{}: c.strict, {RepeatedInPath: true}: c.permitted} {
			bindings, err := o.Compile(m, rule("get", c.path, ""))
			if want == "" && (err != nil || len(bindings) != 1 || len(bindings[0].Vars) != len(bindings[0].Template.Vars())) {
				t.Errorf("%s with %+v: found %v, %v", c.path, o, bindings, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s with %+v: wanted %s, found %v", c.path, o, want, err)
			}
		}
	}
}

// decodingTree is one binding compiled with a choice of decoding.
func decodingTree(t testing.TB, d Decoding, path string) *Tree[*Binding, struct{}] {
	t.Helper()
	m := method(t, newSchema(t, compileProto(t, libraryProto)), "/lib.v1.Library/GetBook")
	bindings, err := Options{Decoding: d}.Compile(m, rule("get", path, ""))
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree(func(*Binding, struct{}) bool { return true })
	tree.Add(bindings[0].Verb, bindings[0].Template, bindings[0])
	return tree
}

// TestDecoding: "%21%40%2F%2f%3a" and so on, by the two texts of google/api/http.proto.
func TestDecoding(t *testing.T) {
	const all = "%3A%2F%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D" // RFC 6570's reserved, in its order
	for _, c := range []struct {
		template, path, slash, reserved string
	}{
		{"/{name}", "/" + all, ":/?#[]@!$&'()*+,;=", ":/?#[]@!$&'()*+,;="}, // one segment: decoded whole
		{"/{name=*}", "/a%2fb%20c", "a/b c", "a/b c"},
		{"/{name=shelves/*}", "/shelves/" + all, "shelves/:%2F?#[]@!$&'()*+,;=", "shelves/" + all},
		{"/{name=**}", "/" + all, ":%2F?#[]@!$&'()*+,;=", all},
		{"/{name=**}", "/a/b%20%41%2D%7E/c%3a", "a/b A-~/c:", "a/b A-~/c%3a"}, // what is not reserved is decoded; what is kept keeps its case
		{"/{name=**}", "/caf%C3%A9/%25", "caf\u00e9/%", "caf\u00e9/%"},
		{"/{name=**}", "/a:b/c@d", "a:b/c@d", "a:b/c@d"}, // raw is raw
		{"/{name=shelves/*}:go", "/shelves/x%3Ay%2f:go", "shelves/x:y%2f", "shelves/x%3Ay%2f"},
		{"/{name=shelves/x%3Ay}", "/shelves/x:y", "shelves/x:y", "shelves/x:y"},
	} {
		segs, err := AppendSegments(nil, c.path)
		if err != nil {
			t.Fatal(err)
		}
		for d, want := range map[Decoding]string{ExceptSlash: c.slash, ExceptReserved: c.reserved} {
			tree := decodingTree(t, d, c.template)
			for _, path := range []string{"", c.path} {
				if _, vars, ok := tree.MatchPath(http.MethodGet, path, segs, struct{}{}, nil); !ok || vars[0] != want {
					t.Errorf("%s on %s, decoding %d: wanted %q, found %q, %v", c.template, c.path, d, want, vars, ok)
				}
			}
		}
	}
	// Two decodings in one tree do not mix.
	tree := decodingTree(t, ExceptSlash, "/a/{name=**}")
	m := tree.Same(http.MethodGet, mustParse(t, "/a/**"))[0].Method
	bindings, err := Options{Decoding: ExceptReserved}.Compile(m, &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/b/{name=**}"}})
	if err != nil {
		t.Fatal(err)
	}
	tree.Add(http.MethodGet, bindings[0].Template, bindings[0])
	for path, want := range map[string]string{"/a/%3A": ":", "/b/%3A": "%3A"} {
		segs, err := AppendSegments(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, vars, ok := tree.Match(http.MethodGet, segs, struct{}{}, nil); !ok || vars[0] != want {
			t.Errorf("%s: wanted %q, found %q, %v", path, want, vars, ok)
		}
	}
}

// TestDecodingAgainstGateway holds both decodings to grpc-gateway's modes of the same meaning. They are asked about "**"
// alone: inside a variable of several segments grpc-gateway decodes "*" whole (see sameCaptures).
func TestDecodingAgainstGateway(t *testing.T) {
	w := words{rand.New(rand.NewPCG(7, 8))} //nolint:gosec // the same cases each run
	for d, mode := range map[Decoding]runtime.UnescapingMode{
		ExceptSlash:    runtime.UnescapingModeAllExceptSlash,
		ExceptReserved: runtime.UnescapingModeAllExceptReserved,
	} {
		g := newGateway(mode)
		if err := g.add(http.MethodGet, "/a/{name=**}", ""); err != nil {
			t.Fatal(err)
		}
		tree := decodingTree(t, d, "/a/{name=**}")
		for range 2000 {
			var b strings.Builder
			b.WriteString("/a")
			for range 1 + w.IntN(3) {
				b.WriteByte('/')
				for range 1 + w.IntN(3) {
					b.WriteString(w.pick("x", "%20", "%2F", "%2f", "%3A", "%3a", ":", "@", "%40", "%21", "%23", "%3F", "%25", "%C3%A9", "%7E", "*"))
				}
			}
			path := b.String()
			segs, err := AppendSegments(nil, path)
			if err != nil {
				continue // "%25" before two hex digits
			}
			_, vars, ok := tree.MatchPath(http.MethodGet, path, segs, struct{}{}, nil)
			if !g.ask(t, http.MethodGet, path) || !ok || vars[0] != g.vars["name"] {
				t.Fatalf("%s, decoding %d: grpc-gateway captures %q, here %q", path, d, g.vars, vars)
			}
		}
	}
}

func TestTakes(t *testing.T) {
	for _, c := range []struct {
		has, asked string
		want       bool
	}{
		{"GET", "GET", true},
		{"GET", "HEAD", true},
		{"HEAD", "GET", false},
		{"POST", "HEAD", false},
		{"*", "HEAD", true},
		{"*", "PURGE", true},
		{"GET", "*", false},
		{"GET", "get", false},
	} {
		if got := (&Binding{Verb: c.has}).Takes(c.asked); got != c.want {
			t.Errorf("%s asked for %s: wanted %v, found %v", c.has, c.asked, c.want, got)
		}
		if got := verbRank(c.has, c.asked) >= 0; got != c.want {
			t.Errorf("%s asked for %s: the tests' own rule says %v", c.has, c.asked, got)
		}
	}
}
