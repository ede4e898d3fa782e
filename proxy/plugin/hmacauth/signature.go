package hmacauth

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// signature is what the headers Signature and Signature-Input say (RFC 9421 section 4).
type signature struct {
	components []string
	params     string // the components with the parameters, as they are signed
	key        string
	algorithm  string
	nonce      string
	created    time.Time
	expires    time.Time
	mac        []byte
}

// Bounds on what is parsed.
const (
	maxHeader     = 4096
	maxComponents = 50
	maxNonce      = 256
)

// parse reads the one signature of a request.
func parse(header rpc.Metadata) (*signature, error) {
	inputs, err := dictionary(header, "signature-input")
	if err != nil {
		return nil, err
	}
	macs, err := dictionary(header, "signature")
	if err != nil {
		return nil, err
	}
	names := inputs.Names()
	if len(names) != 1 || len(macs.Names()) != 1 || macs.Names()[0] != names[0] {
		return nil, errors.New("wanted one signature, with the same name in Signature and Signature-Input")
	}
	member, _ := inputs.Get(names[0])
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, errors.New("header signature-input has no list of components")
	}
	member, _ = macs.Get(names[0])
	item, ok := member.(httpsfv.Item)
	if !ok {
		return nil, errors.New("header signature is no sequence of bytes")
	}
	s := &signature{}
	if s.mac, ok = item.Value.([]byte); !ok {
		return nil, errors.New("header signature is no sequence of bytes")
	}
	if err := s.cover(list); err != nil {
		return nil, err
	}
	if err := s.parameters(list.Params); err != nil {
		return nil, err
	}
	s.params, err = httpsfv.Marshal(httpsfv.List{list})
	return s, err
}

func dictionary(header rpc.Metadata, name string) (*httpsfv.Dictionary, error) {
	if header.Count(name) != 1 {
		return nil, fmt.Errorf("wanted one header %s, found %d", name, header.Count(name))
	}
	v := header.Get(name)
	if len(v) > maxHeader {
		return nil, fmt.Errorf("header %s has %d bytes, at most %d are taken", name, len(v), maxHeader)
	}
	d, err := httpsfv.UnmarshalDictionary([]string{v})
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", name, err)
	}
	return d, nil
}

func (s *signature) cover(list httpsfv.InnerList) error {
	if len(list.Items) > maxComponents {
		return fmt.Errorf("the signature has %d components, at most %d are taken", len(list.Items), maxComponents)
	}
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		switch {
		case !ok || !component.MatchString(name):
			return fmt.Errorf("%v is no component of a signature", item.Value)
		case len(item.Params.Names()) > 0:
			return fmt.Errorf("component %q has parameters, which are not taken", name)
		case slices.Contains(s.components, name):
			return fmt.Errorf("component %q stands twice", name)
		}
		s.components = append(s.components, name)
	}
	return nil
}

func (s *signature) parameters(params *httpsfv.Params) error {
	for _, name := range params.Names() {
		v, _ := params.Get(name)
		ok := true
		switch name {
		case "keyid":
			s.key, ok = v.(string)
		case "alg":
			s.algorithm, ok = v.(string)
		case "nonce":
			s.nonce, ok = v.(string)
			ok = ok && len(s.nonce) <= maxNonce
		case "created":
			s.created, ok = seconds(v)
		case "expires":
			s.expires, ok = seconds(v)
		case "tag":
		default:
			return fmt.Errorf("parameter %q of the signature is not known", name)
		}
		if !ok {
			return fmt.Errorf("parameter %q of the signature is not as RFC 9421 has it", name)
		}
	}
	return nil
}

func seconds(v any) (time.Time, bool) {
	n, ok := v.(int64)
	if !ok || n <= 0 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// derived are the components that are not headers (RFC 9421 section 2.2).
var derived = []string{"@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"}

// base is what is signed (RFC 9421 section 2.5).
func (s *signature) base(h *rpc.HTTP) ([]byte, error) {
	b := make([]byte, 0, 512)
	for _, name := range s.components {
		b = append(append(append(b, '"'), name...), '"', ':', ' ')
		var err error
		if b, err = appendComponent(b, h, name); err != nil {
			return nil, err
		}
		b = append(b, '\n')
	}
	return append(append(b, `"@signature-params": `...), s.params...), nil
}

func appendComponent(b []byte, h *rpc.HTTP, name string) ([]byte, error) {
	switch name {
	case "@method":
		return append(b, h.Method...), nil
	case "@authority":
		return appendAuthority(b, h), nil
	case "@scheme":
		return append(b, h.Scheme...), nil
	case "@path":
		return append(b, h.Path...), nil
	case "@query":
		return append(append(b, '?'), h.Query...), nil
	case "@target-uri":
		b = appendAuthority(append(append(b, h.Scheme...), "://"...), h)
		return appendTarget(b, h), nil
	case "@request-target":
		return appendTarget(b, h), nil
	}
	if name[0] == '@' {
		return b, fmt.Errorf("component %q is not one of requests", name)
	}
	found := false
	for i := range h.Header {
		if h.Header[i].Key != name {
			continue
		}
		if found {
			b = append(b, ", "...)
		}
		b = append(b, strings.TrimSpace(h.Header[i].Value)...)
		found = true
	}
	if !found {
		return b, fmt.Errorf("the signature covers header %q, which the request does not have", name)
	}
	return b, nil
}

func appendAuthority(b []byte, h *rpc.HTTP) []byte {
	b = append(b, h.Host...)
	if h.Port != "" && !(h.Scheme == "http" && h.Port == "80") && !(h.Scheme == "https" && h.Port == "443") {
		b = append(append(b, ':'), h.Port...)
	}
	return b
}

func appendTarget(b []byte, h *rpc.HTTP) []byte {
	b = append(b, h.Path...)
	if h.Query != "" {
		b = append(append(b, '?'), h.Query...)
	}
	return b
}

var errDigest = errors.New("the body is not that of its Content-Digest")

// digest checks the body against its digest (RFC 9530), which the signature covers.
func (a *auth) digest(ctx context.Context, c *rpc.Call, s *signature) error {
	covered := slices.Contains(s.components, "content-digest")
	if !covered && !a.body {
		return nil
	}
	if c.Body == nil {
		return rpc.Refuse(codes.Unauthenticated, "BODY_NOT_SIGNED", "a stream cannot be signed: its body is not known when it begins").WithStatus(401)
	}
	raw, err := c.Body.Raw(ctx)
	if err != nil {
		return err
	}
	if !covered {
		if len(raw) == 0 {
			return nil
		}
		return plugin.Invalid(challenge, errors.New("the signature does not cover content-digest, and there is a body"))
	}
	d, err := dictionary(c.HTTP.Header, "content-digest")
	if err != nil {
		return plugin.Invalid(challenge, err)
	}
	known := 0
	for _, name := range d.Names() {
		var sum []byte
		switch name {
		case "sha-256":
			h := sha256.Sum256(raw)
			sum = h[:]
		case "sha-512":
			h := sha512.Sum512(raw)
			sum = h[:]
		default:
			continue // RFC 9530 section 3: what is not known is passed over
		}
		member, _ := d.Get(name)
		item, _ := member.(httpsfv.Item)
		want, ok := item.Value.([]byte)
		if !ok || subtle.ConstantTimeCompare(sum, want) == 0 {
			return plugin.Invalid(challenge, errDigest)
		}
		known++
	}
	if known == 0 {
		return plugin.Invalid(challenge, errors.New("Content-Digest has neither sha-256 nor sha-512"))
	}
	return nil
}
