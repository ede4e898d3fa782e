// Package forwardauth is the plugin forward_auth: an HTTP server is asked whether a call may pass.
package forwardauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	forwardauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/forwardauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "forward_auth",
	Config: func() proto.Message { return new(forwardauthv1.ForwardAuth) },
	New:    newPlugin,
}

const (
	defaultTimeout = 2 * time.Second
	maxTimeout     = 30 * time.Second
)

// auth never changes once made.
type auth struct {
	env      plugin.Env
	url      string
	sent     []string
	upstream []string
	client   []string
	consumer string
	body     bool
	timeout  time.Duration
}

var (
	_ plugin.Authenticator = (*auth)(nil)
	_ plugin.Asserter      = (*auth)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*forwardauthv1.ForwardAuth)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if env.Fetch == nil {
		return nil, errors.New("this gateway makes no HTTP requests of its own")
	}
	a := &auth{env: env, url: conf.GetUrl(), body: conf.GetSendBody(), timeout: defaultTimeout}
	if u, err := url.Parse(a.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, plugin.Faultf("url", "write the server's URL: http://auth.example.com/check", "wanted a URL of http or https, found %q", a.url)
	}
	if d := conf.GetTimeout(); d != nil {
		if a.timeout = d.AsDuration(); a.timeout <= 0 || a.timeout > maxTimeout {
			return nil, plugin.Faultf("timeout", "write a time up to 30s", "wanted more than 0s and at most 30s, found %s", a.timeout)
		}
	}
	var err error
	if a.sent, err = names("request_headers", conf.GetRequestHeaders(), "authorization", "cookie"); err != nil {
		return nil, err
	}
	if a.upstream, err = names("upstream_headers", conf.GetUpstreamHeaders()); err != nil {
		return nil, err
	}
	if a.client, err = names("client_headers", conf.GetClientHeaders(), "www-authenticate", "location", "retry-after"); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(a.upstream, plugin.ReservedHeader); i >= 0 {
		return nil, plugin.Faultf(fmt.Sprintf("upstream_headers[%d]", i), "remove it", "%s cannot be metadata", a.upstream[i])
	}
	a.consumer = strings.ToLower(conf.GetConsumerHeader())
	return a, nil
}

// names are headers in lower case, or those that stand for none.
func names(path string, list []string, none ...string) ([]string, error) {
	if len(list) == 0 {
		return none, nil
	}
	out := make([]string, len(list))
	for i, n := range list {
		if !plugin.HeaderName(strings.ToLower(n)) {
			return nil, plugin.Faultf(fmt.Sprintf("%s[%d]", path, i), "write letters, digits and -", "%q is not the name of a header", n)
		}
		out[i] = strings.ToLower(n)
	}
	return out, nil
}

// Wrap implements plugin.Plugin.
func (a *auth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(a, next) }

// RequestHeaders implements plugin.Scripted.
func (a *auth) RequestHeaders() []string { return a.sent }

// Asserts implements plugin.Asserter.
func (a *auth) Asserts() []string { return a.upstream }

// Authenticate implements plugin.Authenticator.
func (a *auth) Authenticate(ctx context.Context, c *rpc.Call) error {
	r := &plugin.FetchRequest{URL: a.url, Header: a.request(c), Timeout: a.timeout}
	if a.body {
		if c.Body == nil {
			return rpc.Refuse(codes.Unimplemented, "STREAM_NOT_CHECKED", "the body of a stream cannot be checked").WithStatus(501)
		}
		raw, err := c.Body.Raw(ctx)
		if err != nil {
			return err
		}
		r.Method, r.Body = "POST", raw
	}
	answer, err := a.env.Fetch.Fetch(ctx, r)
	if err != nil {
		return unavailable(err)
	}
	switch {
	case answer.Status >= 200 && answer.Status < 300:
		return a.accept(c, answer)
	case answer.Status < 300 || answer.Status >= 500:
		return unavailable(fmt.Errorf("the server answered %d", answer.Status))
	}
	return a.refuse(answer)
}

func unavailable(err error) *rpc.Error {
	return rpc.Refuse(codes.Unavailable, "AUTHORIZATION_UNAVAILABLE", "the call cannot be checked at the moment").WithCause(err)
}

// request are the headers by which the server knows the call.
func (a *auth) request(c *rpc.Call) rpc.Metadata {
	header := make(rpc.Metadata, 0, 8)
	shown := c.Header
	if h := c.HTTP; h != nil {
		shown = h.Header
		uri, host := h.Path, h.Host
		if h.Query != "" {
			uri += "?" + h.Query
		}
		if h.Port != "" {
			host += ":" + h.Port
		}
		header.Add("x-forwarded-method", h.Method)
		header.Add("x-forwarded-proto", h.Scheme)
		header.Add("x-forwarded-host", host)
		header.Add("x-forwarded-uri", uri)
	}
	header.Add("x-forwarded-for", c.Address().String())
	header.Add("x-request-id", c.ID)
	if c.Method != nil {
		header.Add("x-forwarded-rpc", c.Method.Name)
	}
	own := len(header)
	for i := range shown {
		if key := shown[i].Key; slices.Contains(a.sent, key) && !plugin.ReservedHeader(key) && !plugin.Hearsay(key) && !header[:own].Has(key) {
			header.Add(key, shown[i].Value)
		}
	}
	if c.Consumer != nil {
		header.Set(plugin.ConsumerHeader, c.Consumer.Name)
	}
	return header
}

// accept takes what the server says of the caller into the call.
func (a *auth) accept(c *rpc.Call, answer *plugin.FetchResponse) error {
	var who *rpc.Consumer
	if a.consumer != "" {
		name := answer.Header.Get(a.consumer)
		if who = a.env.Consumer(name); who == nil {
			return rpc.Refuse(codes.PermissionDenied, "CONSUMER_UNKNOWN", "the caller is not known here").WithStatus(403).
				WithCause(fmt.Errorf("header %s names consumer %q, which the configuration does not have", a.consumer, name))
		}
	}
	for i := range answer.Header {
		if h := &answer.Header[i]; slices.Contains(a.upstream, h.Key) && !plugin.Printable(h.Value) {
			return unavailable(fmt.Errorf("header %s of the server's answer cannot be metadata", h.Key))
		}
	}
	for i := range answer.Header {
		if h := answer.Header[i]; slices.Contains(a.upstream, h.Key) {
			c.Header.Add(h.Key, h.Value)
		}
	}
	if who != nil {
		c.Consumer = who
	}
	return nil
}

// refuse makes the server's refusal the answer.
func (a *auth) refuse(answer *plugin.FetchResponse) error {
	out := &rpc.Answer{Status: answer.Status, Body: answer.Body, Code: codes.PermissionDenied, Reason: "AUTHORIZATION_REFUSED", Message: "the call is not allowed"}
	switch answer.Status {
	case 400:
		out.Code = codes.InvalidArgument
	case 401:
		out.Code, out.Message = codes.Unauthenticated, "the caller is not known"
	case 429:
		out.Code, out.Message = codes.ResourceExhausted, "too many calls"
	}
	for i := range answer.Header {
		if h := answer.Header[i]; (slices.Contains(a.client, h.Key) && !plugin.ReservedHeader(h.Key) || h.Key == "content-type") && plugin.Printable(h.Value) {
			out.Header.Add(h.Key, h.Value)
		}
	}
	return out
}
