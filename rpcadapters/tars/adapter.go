package tars

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// protocolName is what the protocol is called in configurations, logs and errors.
const protocolName = "tars"

// Adapter calls TARS servants.
type Adapter struct{}

var (
	_ rpcadapters.Adapter    = Adapter{}
	_ rpcadapters.Configured = Adapter{}
	_ rpcadapters.Binder     = Adapter{}
)

// Name is "tars".
func (Adapter) Name() string { return protocolName }

// Config is a causeway.adapter.tars.v1.Options.
func (Adapter) Config() proto.Message { return &tarsadapterv1.Options{} }

// Dial makes a transport whose connections are made when calls need them.
func (Adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	o, _ := t.Config.(*tarsadapterv1.Options)
	if o == nil {
		o = &tarsadapterv1.Options{}
	}
	most := max(t.MaxMessage+packetRoom, int(o.GetMaxPacket()))
	if o.GetMaxPacket() == 0 {
		most = max(most, defaultMaxPacket)
	}
	cl, err := framed.NewClient(framed.ClientConfig{
		Framing: answers{}, Address: t.Address, TLS: t.TLS, DialTimeout: t.DialTimeout, Conns: int(o.GetConnections()), MaxFrame: most,
	})
	if err != nil {
		return nil, fmt.Errorf("tars: %w", err)
	}
	return &transport{cl: cl, servant: []byte(o.GetServant()), max: t.MaxMessage, timeout: o.GetTimeout().AsDuration(), discovered: t.Discovered}, nil
}

const (
	defaultMaxPacket = 10 << 20
	packetRoom       = 64 << 10 // for what a packet has beside a message
)

// plan is what is known of a method at load.
type plan struct {
	codec

	servant, function []byte
	version           int16
	oneWay            bool
	retErrors         bool
	request, response names
	spelling          *rpcadapters.Spelling // of names of the context
	status            Entries               // of every request
	messageType       int32                 // of every request: what its status has
	framework         int32                 // what of the framework's status callers may set, as bits of the message type
	errors            []errorRule
}

// errorRule says what a range of codes means.
type errorRule struct {
	from, to int32
	code     codes.Code
	status   int
}

// Bind implements rpcadapters.Binder.
func (Adapter) Bind(m *schema.Method, conf proto.Message) (any, error) {
	o, _ := conf.(*tarsadapterv1.Options)
	if o.GetServant() == "" {
		return nil, errors.New(`options.servant: want the servant that the instances serve, like "App.Server.Obj"`)
	}
	if err := checkServant(o.GetServant()); err != nil {
		return nil, fmt.Errorf("options.servant: %w", err)
	}
	p := &plan{servant: []byte(o.GetServant()), request: lowered(o.GetRequestContext()), response: lowered(o.GetResponseContext())}
	var err error
	if p.spelling, err = spellingOf("options.context_names", o.GetContextNames()); err != nil {
		return nil, err
	}
	if p.version, err = bodyVersion(o.GetBody()); err != nil {
		return nil, err
	}
	if err := p.codec.compile(m, p.version, o.GetCharset(), o.GetLenientRequire(), o.GetReplaceInvalidText()); err != nil {
		return nil, err
	}
	p.function = []byte(p.fn.Name)
	p.oneWay = named(o.GetOneWay(), m)
	if p.retErrors, err = p.returnsErrors(o); err != nil {
		return nil, err
	}
	if p.errors, err = errorRules(o.GetErrors()); err != nil {
		return nil, err
	}
	for _, key := range sortedKeys(o.GetStatus()) {
		p.status.Add(key, o.GetStatus()[key])
		for _, f := range frameworkKeys {
			if f.name == key {
				p.messageType |= f.bit
			}
		}
	}
	if p.framework, err = frameworkBits(o.GetFrameworkStatus()); err != nil {
		return nil, err
	}
	return p, nil
}

// frameworkBits are the bits of the keys that callers may set.
func frameworkBits(list []string) (bits int32, err error) {
	for i, key := range list {
		name, bit := frameworkKey(key)
		if name != key {
			var known []string
			for _, f := range frameworkKeys {
				known = append(known, f.name)
			}
			return 0, fmt.Errorf("options.framework_status[%d]: want one of %s, found %q%s", i, strings.Join(known, ", "), key, schema.DidYouMean(key, known))
		}
		bits |= bit
	}
	return bits, nil
}

// checkServant looks at a name of the form App.Server.Obj.
func checkServant(name string) error {
	if at := strings.IndexAny(name, "@ :"); at >= 0 {
		return fmt.Errorf("want the name alone, found %q: give the addresses as endpoints of the service", name)
	}
	if strings.Count(name, ".") != 2 || strings.Contains("."+name+".", "..") {
		return fmt.Errorf(`want three names with dots between, like "App.Server.Obj", found %q`, name)
	}
	return nil
}

func bodyVersion(body string) (int16, error) {
	switch body {
	case "", "tars":
		return VersionTARS, nil
	case "tup":
		return VersionTUP, nil
	case "json":
		return VersionJSON, nil
	}
	return 0, fmt.Errorf("options.body: want tars, tup or json, found %q%s", body, schema.DidYouMean(body, []string{"tars", "tup", "json"}))
}

// named tells whether a method is among names, each a function or a path.
func named(list []string, m *schema.Method) bool {
	for _, n := range list {
		if n == m.Name || n == string(m.Desc.Name()) || n == m.Name[1:] {
			return true
		}
	}
	return false
}

// returnsErrors tells whether a return value that is not 0 is an error.
func (p *plan) returnsErrors(o *tarsadapterv1.Options) (bool, error) {
	listed := named(o.GetRetErrorMethods(), p.method)
	if !o.GetRetErrors() || len(o.GetRetErrorMethods()) > 0 && !listed {
		return false, nil
	}
	ret := p.method.Output.ByNumber(1)
	whole := !p.fn.Natural && ret != nil && ret.Cardinality == schema.Singular && ret.Kind == protoreflect.Int32Kind
	if !whole && listed {
		return false, fmt.Errorf("options.ret_error_methods: %s does not return an int", p.method.Name[1:])
	}
	return whole, nil
}

func errorRules(rules []*tarsadapterv1.ErrorRule) ([]errorRule, error) {
	var out []errorRule
	for i, r := range rules {
		e := errorRule{from: r.GetFrom(), to: r.GetFrom(), code: codes.Unknown, status: int(r.GetStatus())}
		if r.To != nil {
			e.to = r.GetTo()
		}
		if e.to < e.from {
			return nil, fmt.Errorf("options.errors[%d]: want from at most to, found %d and %d", i, e.from, e.to)
		}
		if r.GetCode() != "" {
			if err := e.code.UnmarshalJSON([]byte(`"` + r.GetCode() + `"`)); err != nil || e.code == codes.OK {
				return nil, fmt.Errorf("options.errors[%d].code: want a gRPC code like NOT_FOUND, found %q", i, r.GetCode())
			}
		}
		if e.status != 0 && (e.status < 200 || e.status > 599) {
			return nil, fmt.Errorf("options.errors[%d].status: want an HTTP status from 200 to 599, found %d", i, e.status)
		}
		out = append(out, e)
	}
	return out, nil
}

// names are a list of names in which a name may end in "*"; an empty list has all of them.
type names []string

func (l names) has(name string) bool {
	if len(l) == 0 {
		return true
	}
	for _, n := range l {
		if prefix, ok := strings.CutSuffix(n, "*"); n == name || ok && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// lowered are names in lower case, as metadata has them.
func lowered(list []string) names {
	var l names
	for _, name := range list {
		l = append(l, rpc.Lower(name))
	}
	return l
}

// spellingOf is how names of the context are spelled.
func spellingOf(path string, list []string) (*rpcadapters.Spelling, error) {
	s, bad := rpcadapters.NewSpelling(list)
	if bad >= 0 {
		return nil, fmt.Errorf(`%s[%d]: want a name of metadata as the context is to have it, like "UserId", each once, found %q`, path, bad, list[bad])
	}
	for i, name := range list {
		if reservedStatus(name) {
			return nil, fmt.Errorf("%s[%d]: %q is a name of the framework's: see framework_status", path, i, name)
		}
	}
	return &s, nil
}

// maxBody is how many bytes of a body a packet can say that it has.
const maxBody = math.MaxInt32 - packetRoom
