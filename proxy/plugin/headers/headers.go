// Package headers is the plugin headers: it changes what goes to the service beside the request, and to the caller beside the
// answer.
package headers

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	headersv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/headers/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "headers",
	Config: func() proto.Message { return new(headersv1.Headers) },
	New:    newPlugin,
}

// headers never changes once made.
type headers struct {
	request, response changes
	asserted          []string
}

var _ plugin.Asserter = (*headers)(nil)

// changes are made in the order of the fields.
type changes struct {
	rename   []rename
	remove   []string
	set, add []value
}

type rename struct{ from, to string }

// value is what a header gets.
type value struct {
	at   string // in the configuration
	name string
	text *expr.Template
	raw  bool // a -bin name, whose value is any bytes
}

// maxValue bounds a value that a template makes, in bytes.
const maxValue = 8 << 10

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*headersv1.Headers)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	h := &headers{}
	var err error
	if h.request, err = read("request", conf.GetRequest(), plugin.ReservedHeader); err != nil {
		return nil, err
	}
	if h.response, err = read("response", conf.GetResponse(), plugin.ReservedAnswerHeader); err != nil {
		return nil, err
	}
	if h.request.none() && h.response.none() {
		return nil, plugin.Faultf("", `write what to change: request: {set: {x-tenant: "{{ claims.tenant }}"}}`, "no changes")
	}
	for _, v := range slices.Concat(h.request.set, h.request.add) {
		if v.text.Identity() {
			h.asserted = append(h.asserted, v.name)
		}
	}
	return h, nil
}

func (r *changes) none() bool { return len(r.rename)+len(r.remove)+len(r.set)+len(r.add) == 0 }

func read(at string, conf *headersv1.Changes, reserved func(string) bool) (changes, error) {
	var c changes
	name := func(at, name string) (string, error) {
		key := strings.ToLower(name)
		switch {
		case !plugin.HeaderName(key):
			return "", plugin.Faultf(at, "write letters, digits, - _ and .", "%q is not the name of a header", name)
		case reserved(key):
			return "", plugin.Faultf(at, "remove it", "%s is the protocol's own", key)
		}
		return key, nil
	}
	for _, from := range slices.Sorted(maps.Keys(conf.GetRename())) { // maps have no order: one that is always the same
		at := fmt.Sprintf("%s.rename[%q]", at, from)
		f, err := name(at, from)
		if err != nil {
			return c, err
		}
		to, err := name(at, conf.GetRename()[from])
		switch {
		case err != nil:
			return c, err
		case f == to:
			return c, plugin.Faultf(at, "remove it", "a header renamed to itself")
		case strings.HasSuffix(f, "-bin") != strings.HasSuffix(to, "-bin"):
			return c, plugin.Faultf(at, "let both names end in -bin, or none", "names in -bin have values of another form")
		}
		c.rename = append(c.rename, rename{f, to})
	}
	for i, n := range conf.GetRemove() {
		key, err := name(fmt.Sprintf("%s.remove[%d]", at, i), n)
		if err != nil {
			return c, err
		}
		c.remove = append(c.remove, key)
	}
	for _, m := range []struct {
		key  string
		conf map[string]string
		to   *[]value
	}{{"set", conf.GetSet(), &c.set}, {"add", conf.GetAdd(), &c.add}} {
		for _, n := range slices.Sorted(maps.Keys(m.conf)) {
			at := fmt.Sprintf("%s.%s[%q]", at, m.key, n)
			key, err := name(at, n)
			if err != nil {
				return c, err
			}
			v, err := valueOf(at, key, m.conf[n])
			if err != nil {
				return c, err
			}
			*m.to = append(*m.to, v)
		}
	}
	return c, nil
}

func valueOf(at, key, text string) (value, error) {
	v := value{at: at, name: key, raw: strings.HasSuffix(key, "-bin")}
	t, err := expr.ParseTemplate(text)
	if err != nil {
		return v, plugin.Faultf(at, "write text with {{ EXPRESSION }} parts", "%s", err)
	}
	v.text = t
	if t.AfterAnswer() {
		return v, plugin.Faultf(at, "ask for what is known of the request", "`answer` is not known while headers can be changed")
	}
	if text, ok := t.Constant(); ok {
		if why := v.refused(text); why != "" {
			return v, plugin.Faultf(at, "write printable ascii, or use a name that ends in -bin", "%s", why)
		}
	}
	return v, nil
}

// refused says why a header cannot carry a text, "" where it can: nothing that comes out of a template ends a header and begins
// another. The text itself is not said: it may be a secret.
func (v *value) refused(text string) string {
	switch {
	case len(text) > maxValue:
		return fmt.Sprintf("the value has %d bytes, at most %d are sent", len(text), maxValue)
	case !v.raw && !plugin.HeaderValue(text):
		return "the value has a byte that cannot stand in a header"
	}
	return ""
}

// Expressions implements plugin.Evaluator.
func (h *headers) Expressions(*schema.Method) []plugin.Expression {
	var out []plugin.Expression
	for _, v := range slices.Concat(h.request.set, h.request.add, h.response.set, h.response.add) {
		out = append(out, plugin.Expression{Path: v.at, Source: v.text})
	}
	return out
}

// Asserts implements plugin.Asserter: headers that say who calls are the gateway's, also in calls that a condition takes past
// the plugin.
func (h *headers) Asserts() []string { return h.asserted }

// Wrap implements plugin.Plugin.
func (h *headers) Wrap(next rpc.Handler) rpc.Handler { return &handler{h, next} }

type handler struct {
	*headers
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if err := h.change(ctx, c); err != nil {
		return err
	}
	r := &h.response
	if r.none() {
		return h.next.Handle(ctx, c)
	}
	given, err := h.answer(ctx, c)
	if err != nil {
		return err
	}
	if c.Stream != nil {
		c.Stream = &stream{Stream: c.Stream, call: c, changes: r, given: given}
	}
	err = h.next.Handle(ctx, c)
	r.apply(c, given) // of a stream that has begun, the trailers
	return err
}

// change makes the changes to the request.
func (h *handler) change(ctx context.Context, c *rpc.Call) error {
	r := &h.request
	for _, n := range r.rename {
		if !c.Header.Has(n.from) {
			continue
		}
		c.Header.Del(n.to)
		for i := range c.Header {
			if c.Header[i].Key == n.from {
				c.Header[i].Key = n.to
			}
		}
	}
	for _, name := range r.remove {
		c.Header.Del(name)
	}
	for i := range r.set {
		v := &r.set[i]
		text, err := v.of(ctx, c)
		if err != nil {
			return err
		}
		c.Header.Del(v.name)
		if text != "" {
			c.Header.Add(v.name, text)
		}
	}
	for i := range r.add {
		text, err := r.add[i].of(ctx, c)
		if err != nil {
			return err
		}
		if text != "" {
			c.Header.Add(r.add[i].name, text)
		}
	}
	return nil
}

// of is the value for a call. A template that fails, or makes what no header can carry, refuses the call.
func (v *value) of(ctx context.Context, c *rpc.Call) (string, error) {
	if text, ok := v.text.Constant(); ok {
		return v.trimmed(text), nil
	}
	text, err := v.text.Text(ctx, c, nil)
	if err != nil {
		return "", rpc.Refuse(codes.Internal, "HEADER_FAILED", "internal error").WithCause(fmt.Errorf("header %s: %w", v.name, err))
	}
	if why := v.refused(text); why != "" {
		return "", rpc.Refuse(codes.InvalidArgument, "HEADER_VALUE", "the request has a value that cannot be passed on in a header").
			WithCause(fmt.Errorf("header %s: %s", v.name, why))
	}
	return v.trimmed(text), nil
}

// trimmed is a text without the spaces around it, which no header keeps (RFC 9110 section 5.5) and gRPC refuses.
func (v *value) trimmed(text string) string {
	if v.raw {
		return text
	}
	return strings.Trim(text, " ")
}

// answer makes the headers of the answer before it is there, so that also an error has them. What is returned is for answers that
// are not HTTP's.
func (h *handler) answer(ctx context.Context, c *rpc.Call) (given rpc.Metadata, err error) {
	r := &h.response
	for i := range r.set {
		text, err := r.set[i].of(ctx, c)
		if err != nil {
			return nil, err
		}
		if c.HTTP != nil {
			c.HTTP.Answer.Del(r.set[i].name)
		}
		r.set[i].give(c, text, &given)
	}
	for i := range r.add {
		text, err := r.add[i].of(ctx, c)
		if err != nil {
			return nil, err
		}
		r.add[i].give(c, text, &given)
	}
	return given, nil
}

// give adds a header to the answer, under its own name.
func (v *value) give(c *rpc.Call, text string, given *rpc.Metadata) {
	switch {
	case text == "":
	case c.HTTP == nil:
		given.Add(v.name, text)
	case v.raw:
		c.HTTP.Answer.Add(v.name, base64.RawStdEncoding.EncodeToString([]byte(text)))
	default:
		c.HTTP.Answer.Add(v.name, text)
	}
}

// apply makes the changes to what the service sent beside its answer. They may be made twice.
func (r *changes) apply(c *rpc.Call, given rpc.Metadata) {
	for _, m := range [...]*rpc.Metadata{&c.Reply.Header, &c.Reply.Trailer} {
		if len(*m) == 0 {
			continue
		}
		for _, n := range r.rename {
			r.move(c, m, n)
		}
		for _, name := range r.remove {
			m.Del(name)
		}
		for i := range r.set {
			m.Del(r.set[i].name) // the answer has the plugin's
		}
	}
	for _, p := range given {
		if !slices.Contains(c.Reply.Header, p) {
			c.Reply.Header = append(c.Reply.Header, p)
		}
	}
}

// move takes a header of the service's to another name. With HTTP it is then a header of the answer, not metadata: REST callers
// get it under that very name. The answer of a WebSocket went out before.
func (r *changes) move(c *rpc.Call, m *rpc.Metadata, n rename) {
	if !m.Has(n.from) {
		return
	}
	for i := range *m {
		p := &(*m)[i]
		if p.Key != n.from {
			continue
		}
		if c.HTTP == nil || m == &c.Reply.Trailer || isWebSocket(c) {
			p.Key = n.to
			continue
		}
		v := p.Value
		if strings.HasSuffix(n.to, "-bin") {
			v = base64.RawStdEncoding.EncodeToString([]byte(v))
		}
		if plugin.HeaderValue(v) {
			c.HTTP.Answer.Add(n.to, v)
		}
	}
	m.Del(n.from)
}

// isWebSocket tells a call whose answer is a handshake.
func isWebSocket(c *rpc.Call) bool {
	return c.Stream != nil && c.Protocol == "rest" && strings.Contains(rpc.Lower(c.HTTP.Header.Get("upgrade")), "websocket")
}

// stream makes the changes before the head of the answer goes out.
type stream struct {
	rpc.Stream
	call    *rpc.Call
	changes *changes
	given   rpc.Metadata
	begun   bool
}

// Start implements rpc.Stream.
func (s *stream) Start() error {
	s.begin()
	return s.Stream.Start()
}

// Send implements rpc.Stream.
func (s *stream) Send(m *rpc.Message, more bool) error {
	s.begin()
	return s.Stream.Send(m, more)
}

func (s *stream) begin() {
	if !s.begun {
		s.begun = true
		s.changes.apply(s.call, s.given)
	}
}
