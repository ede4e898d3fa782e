// Package extauthz is the plugin ext_authz: a gRPC service is asked whether a call may pass, by the protocol that Envoy's
// servers speak (envoy.service.auth.v3.Authorization,
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto).
package extauthz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	extauthzv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/extauthz/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "ext_authz",
	Config: func() proto.Message { return new(extauthzv1.ExtAuthz) },
	New:    newPlugin,
}

const (
	defaultTimeout = time.Second
	maxTimeout     = 30 * time.Second
)

// check is the method that is called.
var check = &schema.Method{Name: authv3.Authorization_Check_FullMethodName, Kind: schema.Unary}

// auth never changes once made.
type auth struct {
	env      plugin.Env
	service  plugin.Service
	name     string
	sent     []string // nil: all
	body     bool
	context  map[string]string
	upstream []string
	consumer string
	timeout  time.Duration
}

var (
	_ plugin.Authenticator = (*auth)(nil)
	_ plugin.Asserter      = (*auth)(nil)
	_ plugin.Director      = (*auth)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*extauthzv1.ExtAuthz)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if conf.GetService() == "" {
		return nil, plugin.Faultf("", "name a service of the configuration: service: authz", "no service")
	}
	a := &auth{
		env: env, service: env.Service(conf.GetService()), name: conf.GetService(), body: conf.GetSendBody(), context: conf.GetContext(),
		consumer: strings.ToLower(conf.GetConsumerHeader()), timeout: defaultTimeout,
	}
	if d := conf.GetTimeout(); d != nil {
		if a.timeout = d.AsDuration(); a.timeout <= 0 || a.timeout > maxTimeout {
			return nil, plugin.Faultf("timeout", "write a time up to 30s", "wanted more than 0s and at most 30s, found %s", a.timeout)
		}
	}
	for _, list := range []struct {
		path  string
		names []string
		to    *[]string
	}{{"request_headers", conf.GetRequestHeaders(), &a.sent}, {"upstream_headers", conf.GetUpstreamHeaders(), &a.upstream}} {
		for i, n := range list.names {
			if !plugin.HeaderName(strings.ToLower(n)) || list.to == &a.upstream && plugin.ReservedHeader(strings.ToLower(n)) {
				return nil, plugin.Faultf(fmt.Sprintf("%s[%d]", list.path, i), "write letters, digits and -", "%q is not the name of such a header", n)
			}
			*list.to = append(*list.to, strings.ToLower(n))
		}
	}
	return a, nil
}

// Wrap implements plugin.Plugin.
func (a *auth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(a, next) }

// Services implements plugin.Director.
func (a *auth) Services() (chosen, called []string) { return nil, []string{a.name} }

// Asserts implements plugin.Asserter.
func (a *auth) Asserts() []string { return a.upstream }

// Authenticate implements plugin.Authenticator.
func (a *auth) Authenticate(ctx context.Context, c *rpc.Call) error {
	request, err := a.request(ctx, c)
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(request)
	if err != nil {
		return unavailable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	asked := &rpc.Call{Method: check, Protocol: "ext_authz", Route: c.Route, Service: a.name, ID: c.ID, Header: rpc.Metadata{{Key: "x-request-id", Value: c.ID}}}
	for i := range c.Header {
		if k := c.Header[i].Key; k == "traceparent" || k == "tracestate" || k == "b3" {
			asked.Header = append(asked.Header, c.Header[i])
		}
	}
	var out rpc.Reply
	defer out.Reset()
	if err := a.service.Unary(ctx, asked, &rpc.Message{Data: raw}, &out); err != nil {
		return unavailable(err)
	}
	answer := &authv3.CheckResponse{}
	if err := proto.Unmarshal(out.Message.Data, answer); err != nil {
		return unavailable(err)
	}
	if answer.GetStatus().GetCode() != int32(codes.OK) {
		return refusal(answer)
	}
	if answer.GetStatus() == nil {
		return unavailable(errors.New("the answer has no status"))
	}
	return a.accept(c, answer)
}

func unavailable(err error) *rpc.Error {
	return rpc.Refuse(codes.Unavailable, "AUTHORIZATION_UNAVAILABLE", "the call cannot be checked at the moment").WithCause(err)
}

// request describes the call.
func (a *auth) request(ctx context.Context, c *rpc.Call) (*authv3.CheckRequest, error) {
	peer := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: c.Address().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(c.Peer.Port())},
	}}}
	h := &authv3.AttributeContext_HttpRequest{Id: c.ID, Protocol: c.Protocol, Headers: map[string]string{}, Size: -1}
	shown := c.Header
	if c.HTTP != nil {
		shown = c.HTTP.Header
		h.Method, h.Host, h.Scheme, h.Path, h.Query = c.HTTP.Method, c.HTTP.Host, c.HTTP.Scheme, c.HTTP.Path, c.HTTP.Query
		if h.Query != "" {
			h.Path += "?" + h.Query
		}
	} else if c.Method != nil {
		h.Path = c.Method.Name
	}
	for i := range shown {
		k := shown[i].Key
		if plugin.Hearsay(k) || a.sent != nil && !slices.Contains(a.sent, k) {
			continue
		}
		if v, ok := h.GetHeaders()[k]; ok {
			h.Headers[k] = v + "," + shown[i].Value
		} else {
			h.Headers[k] = shown[i].Value
		}
	}
	h.Headers["x-forwarded-for"] = c.Address().String()
	if c.HTTP != nil {
		h.Headers["x-forwarded-proto"] = c.HTTP.Scheme
	}
	if c.Consumer != nil {
		h.Headers[plugin.ConsumerHeader] = c.Consumer.Name
	}
	if a.body {
		if c.Body == nil {
			return nil, rpc.Refuse(codes.Unimplemented, "STREAM_NOT_CHECKED", "the body of a stream cannot be checked").WithStatus(501)
		}
		raw, err := c.Body.Raw(ctx)
		if err != nil {
			return nil, err
		}
		h.RawBody, h.Size = raw, int64(len(raw))
	}
	extensions := map[string]string{"route": c.Route, "service": c.Service}
	if c.Method != nil {
		extensions["rpc"] = c.Method.Name
	}
	maps.Copy(extensions, a.context)
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:            &authv3.AttributeContext_Peer{Address: peer, Principal: c.ConsumerName()},
		Request:           &authv3.AttributeContext_Request{Time: timestamppb.New(a.env.Now()), Http: h},
		ContextExtensions: extensions,
	}}, nil
}

// accept takes what the service says of the caller into the call.
func (a *auth) accept(c *rpc.Call, answer *authv3.CheckResponse) error {
	ok := answer.GetOkResponse()
	var who *rpc.Consumer
	set := make(rpc.Metadata, 0, len(ok.GetHeaders()))
	for _, o := range ok.GetHeaders() {
		key, value := rpc.Lower(o.GetHeader().GetKey()), o.GetHeader().GetValue()
		if value == "" {
			value = string(o.GetHeader().GetRawValue())
		}
		if key == a.consumer && key != "" {
			if who = a.env.Consumer(value); who == nil {
				return unknown(key, value)
			}
		}
		if !slices.Contains(a.upstream, key) {
			continue
		}
		if !plugin.Printable(value) {
			return unavailable(fmt.Errorf("header %s of the answer cannot be metadata", key))
		}
		set.Add(key, value)
	}
	if a.consumer != "" && who == nil {
		return unknown(a.consumer, "")
	}
	for _, name := range ok.GetHeadersToRemove() {
		c.Header.Del(rpc.Lower(name))
	}
	c.Header = append(c.Header, set...)
	if c.HTTP != nil {
		for _, o := range ok.GetResponseHeadersToAdd() {
			key, value := rpc.Lower(o.GetHeader().GetKey()), o.GetHeader().GetValue()
			if plugin.HeaderName(key) && !plugin.ReservedHeader(key) && plugin.Printable(value) {
				c.HTTP.Answer.Add(key, value)
			}
		}
	}
	if who != nil {
		c.Consumer = who
	}
	return nil
}

func unknown(header, name string) error {
	return rpc.Refuse(codes.PermissionDenied, "CONSUMER_UNKNOWN", "the caller is not known here").WithStatus(403).
		WithCause(fmt.Errorf("header %s names consumer %q, which the configuration does not have", header, name))
}

// refusal makes the service's refusal the answer.
func refusal(answer *authv3.CheckResponse) error {
	denied := answer.GetDeniedResponse()
	out := &rpc.Answer{Status: int(denied.GetStatus().GetCode()), Body: []byte(denied.GetBody()), Reason: "AUTHORIZATION_REFUSED", Message: "the call is not allowed"}
	if n := answer.GetStatus().GetCode(); n > 0 && n <= int32(codes.Unauthenticated) {
		out.Code = codes.Code(n)
	} else {
		out.Code = codes.PermissionDenied
	}
	if out.Status < 300 || out.Status > 599 {
		out.Status = 403
	}
	if m := answer.GetStatus().GetMessage(); m != "" {
		out.Message = m
	}
	for _, o := range denied.GetHeaders() {
		key, value := rpc.Lower(o.GetHeader().GetKey()), o.GetHeader().GetValue()
		if (plugin.HeaderName(key) && !plugin.ReservedHeader(key) || key == "content-type") && plugin.Printable(value) {
			out.Header.Add(key, value)
		}
	}
	return out
}
