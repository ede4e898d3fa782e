package trpc

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// plan is what the adapter makes of a method and the options of its service. Read-only.
type plan struct {
	method   *schema.Method
	callee   string
	names    []byte // caller, callee and func as they stand in the header of a request
	meta     []byte // the same in request_meta of a stream
	form     *form
	encoding uint32
	above    int // bytes from which on a request is packed
	oneWay   bool
	window   uint32

	env, dyeing string
	request     names // of metadata that is sent; nil: all
	response    names // of trans_info that becomes metadata; nil: all but the echo and the framework's
	framework   names // of the framework's names, those which anybody may set
	spelling    *rpcadapters.Spelling
	errors      []*errorRule
}

// errorRule says what codes of the application mean.
type errorRule struct {
	from, to int32
	code     codes.Code
	status   int
}

const (
	defaultCaller = "trpc.causeway.gateway.Gateway"
	defaultAbove  = 1 << 10
	defaultWindow = 256 << 10
	minWindow     = 1<<16 - 1 // the least that a receiver announces
	maxWindow     = 1 << 30
	defaultConns  = 2
	maxConns      = 1024
)

// newPlan makes the plan of a method. conf is a *trpcv1.Options, or nil.
func newPlan(m *schema.Method, conf proto.Message) (*plan, error) {
	o, _ := conf.(*trpcv1.Options)
	if o == nil {
		o = &trpcv1.Options{}
	}
	p := &plan{
		method: m, callee: or(o.GetCallee(), m.Service.Name), above: int(o.GetPackAbove()), env: o.GetEnv(), dyeing: o.GetDyeingKey(),
		request: lowered(o.GetRequestInfo()), response: lowered(o.GetResponseInfo()), framework: lowered(o.GetFrameworkInfo()), window: o.GetWindow(),
	}
	if p.above == 0 {
		p.above = defaultAbove
	}
	if o.GetConnections() > maxConns {
		return nil, fmt.Errorf("connections: %d to one instance are too many: at most %d", o.GetConnections(), maxConns)
	}
	var err error
	if p.spelling, err = spellingOf(o.GetInfoNames()); err != nil {
		return nil, err
	}
	if p.window, err = windowOf(p.window); err != nil {
		return nil, err
	}
	if p.form, err = newForm(m, o.GetContentType()); err != nil {
		return nil, err
	}
	if p.encoding, err = encodingOf(o.GetEncoding()); err != nil {
		return nil, err
	}
	if p.oneWay, err = isOneWay(m, o.GetOneWay()); err != nil {
		return nil, err
	}
	if p.errors, err = errorRules(o.GetErrors()); err != nil {
		return nil, err
	}
	fn := m.Name
	if alias := aliasOf(m); alias != "" {
		fn = alias
	}
	caller := or(o.GetCaller(), defaultCaller)
	for i, s := range [...]string{caller, p.callee, fn} {
		n := protowire.Number(i + 1)
		p.meta = appendBytes(p.meta, n, []byte(s))
		p.names = appendBytes(p.names, n+4, []byte(s))
	}
	if len(p.names) > maxHeader/2 {
		return nil, fmt.Errorf("caller, callee and name of the method have %d bytes, and a header has %d", len(p.names), maxHeader)
	}
	return p, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// lowered are names in lower case, as metadata has them.
func lowered(list []string) names {
	var l names
	for _, name := range list {
		l = append(l, rpc.Lower(name))
	}
	return l
}

// spellingOf is how names of trans_info are spelled.
func spellingOf(list []string) (*rpcadapters.Spelling, error) {
	s, bad := rpcadapters.NewSpelling(list)
	if bad >= 0 {
		return nil, fmt.Errorf(`info_names[%d]: want a name of metadata as trans_info is to have it, like "UserId", each once, found %q`, bad, list[bad])
	}
	for i, name := range list {
		if strings.HasPrefix(rpc.Lower(name), frameworkPrefix) {
			return nil, fmt.Errorf("info_names[%d]: %q is a name of the framework's, which has one spelling", i, name)
		}
	}
	return &s, nil
}

func windowOf(n uint32) (uint32, error) {
	switch {
	case n == 0:
		return defaultWindow, nil
	case n < minWindow || n > maxWindow:
		return 0, fmt.Errorf("window: %d bytes are out of range: want %d to %d", n, minWindow, maxWindow)
	}
	return n, nil
}

// encodingOf finds what requests are packed with.
func encodingOf(name string) (uint32, error) {
	if name == "" {
		return encodingNone, nil
	}
	known := slices.DeleteFunc(slices.Clone(encodingNames[:]), func(s string) bool { return s == encodingNames[encodingSnappy] })
	if i := slices.Index(encodingNames[:], name); i >= 0 && i != encodingSnappy {
		return uint32(i), nil //nolint:gosec // an index of eight
	}
	return 0, fmt.Errorf("encoding %q is not known: want one of %s%s", name, strings.Join(known, ", "), schema.DidYouMean(name, known))
}

// isOneWay tells whether a method is listed, by its name alone or with its service.
func isOneWay(m *schema.Method, listed []string) (bool, error) {
	for _, name := range listed {
		if name == m.Name || "/"+name == m.Name || name == string(m.Desc.Name()) {
			if m.Kind != schema.Unary {
				return false, fmt.Errorf("one_way: %s is a %s method, and those have answers", m.Name[1:], m.Kind)
			}
			return true, nil
		}
	}
	return false, nil
}

func errorRules(rules []*trpcv1.ErrorRule) ([]*errorRule, error) {
	out := make([]*errorRule, 0, len(rules))
	for i, r := range rules {
		e := &errorRule{from: r.GetFrom(), to: r.GetFrom(), code: codes.Unknown, status: int(r.GetStatus())}
		if r.To != nil {
			e.to = r.GetTo()
		}
		if e.to < e.from {
			return nil, fmt.Errorf("errors[%d]: the range from %d to %d is empty", i, e.from, e.to)
		}
		if s := r.GetStatus(); s != 0 && (s < 200 || s > 599) {
			return nil, fmt.Errorf("errors[%d]: status %d: want 200 to 599", i, s)
		}
		if name := r.GetCode(); name != "" {
			known := make([]string, 0, codes.Unauthenticated)
			for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
				known = append(known, rpc.CodeName(c))
			}
			at := slices.Index(known, name)
			if at < 0 {
				return nil, fmt.Errorf("errors[%d]: code %q is none of gRPC that says of an error%s", i, name, schema.DidYouMean(name, known))
			}
			e.code = codes.Code(at + 1) //nolint:gosec // an index of sixteen
		}
		out = append(out, e)
	}
	return out, nil
}

// aliasField is the number of the method option trpc.alias, a string.
const aliasField = 50001

// aliasOf is the name that a method is called by instead of its path, "" where it has none. It is read from the bytes of the
// options: nobody need have compiled trpc.proto into the schema.
func aliasOf(m *schema.Method) string {
	o := m.Desc.Options()
	if o == nil || !o.ProtoReflect().IsValid() {
		return ""
	}
	data, err := proto.Marshal(o)
	if err != nil {
		return ""
	}
	alias := ""
	f := fields{data: data}
	for f.next() {
		if f.num == aliasField && f.typ == protowire.BytesType {
			alias = string(f.bytes)
		}
	}
	return alias
}

// names are names of metadata; "app-*" is every name that begins so.
type names []string

func (n names) has(key string) bool {
	for _, name := range n {
		if name == key {
			return true
		}
		if prefix, ok := strings.CutSuffix(name, "*"); ok && strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// The names of trans_info that the framework knows.
const (
	frameworkPrefix = "trpc-"
	dyeingKey       = "trpc-dyeing-key"
	envKey          = "trpc-env"
)

// sends tells whether a pair of a call's metadata is sent. What is the framework's comes from callers over tRPC alone, and of
// that what is meant to be passed on along a chain of calls.
func (p *plan) sends(c *rpc.Call, key string) bool {
	if strings.HasPrefix(key, frameworkPrefix) {
		return chained(c) && (key == dyeingKey || key == envKey) || p.framework.has(key)
	}
	return key != "" && (p.request == nil || p.request.has(key))
}

// chained tells whether a call came over tRPC, in either form.
func chained(c *rpc.Call) bool { return c.Protocol == protocolName || c.Protocol == protocolHTTP }

// takes tells whether a pair of an answer's trans_info becomes metadata of the answer to c: not what was sent with the
// request, which servers send back.
func (p *plan) takes(c *rpc.Call, key, name, value string) bool {
	if p.response != nil {
		if !p.response.has(key) {
			return false
		}
	} else if strings.HasPrefix(key, frameworkPrefix) {
		return false
	}
	if len(c.Spelled) > 0 {
		return !p.echoed(c, name, value)
	}
	for i := range c.Header {
		if c.Header[i].Key == key && c.Header[i].Value == value && p.sends(c, key) {
			return false
		}
	}
	return true
}

// echoed tells whether a pair of trans_info was sent with a call whose metadata is not all that it came with.
func (p *plan) echoed(c *rpc.Call, name, value string) bool {
	speller := c.Spelled.Speller()
	for i := range c.Header {
		key := c.Header[i].Key
		if sent, as := asStood(&speller, &c.Header[i]); as == value && rpc.EqualFold(sent, name) && p.sends(c, key) {
			return true
		}
	}
	for i := range c.Spelled {
		if s := &c.Spelled[i]; s.As.Key == "" && s.Text == value && s.Name == name {
			return true
		}
	}
	return false
}
