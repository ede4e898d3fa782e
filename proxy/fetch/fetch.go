// Package fetch makes the gateway's own HTTP requests, to key sets and authorisation servers: to public addresses and to
// those that the configuration allows, whatever a name resolves to at the moment; without redirects, without a proxy of the
// environment, and bounded in time and size.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// What a request may take where it does not say it.
const (
	defaultTimeout  = 2 * time.Second
	defaultMaxBytes = 64 << 10
	maxHeader       = 64 << 10         // bytes of an answer's head
	idle            = 30 * time.Second // how long a connection is kept for the next request
	perHost         = 64               // connections kept
)

// fetcher implements plugin.Fetcher.
type fetcher struct {
	allow     []netip.Prefix
	transport *http.Transport
}

// New returns a plugin.Fetcher that may also call the addresses in allow. Connections that are not used are closed after
// a while: a Fetcher need not be closed.
func New(allow []netip.Prefix) plugin.Fetcher { return newFetcher(allow, nil) }

// newFetcher is New with a resolver of its own; nil: the system's.
func newFetcher(allow []netip.Prefix, resolver *net.Resolver) *fetcher {
	f := &fetcher{}
	for _, p := range allow {
		f.allow = append(f.allow, unmapped(p))
	}
	dialer := &net.Dialer{Timeout: defaultTimeout, Resolver: resolver, ControlContext: f.control}
	f.transport = &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		MaxIdleConnsPerHost:    perHost,
		IdleConnTimeout:        idle,
		TLSHandshakeTimeout:    defaultTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}
	return f
}

// unmapped is a network of IPv4-mapped addresses as one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96).Masked()
	}
	return p.Masked()
}

// errAddress is the error of an address that may not be called.
type errAddress struct{ addr netip.Addr }

// Error implements error.
func (e *errAddress) Error() string {
	return fmt.Sprintf("%s is not a public address: add it to outbound.allow if it is meant", e.addr)
}

// control sees the address that is about to be dialled: what a name was resolved to a moment ago does not count.
func (f *fetcher) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("wanted to dial tcp, found %s", network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("wanted an address to dial, found %q", address)
	}
	if !f.allowed(ap.Addr()) {
		return &errAddress{ap.Addr()}
	}
	return nil
}

// allowed tells whether an address may be called.
func (f *fetcher) allowed(a netip.Addr) bool {
	bare := a.WithZone("").Unmap()
	for _, p := range f.allow {
		if p.Contains(bare) {
			return true
		}
	}
	return a.Zone() == "" && public(bare)
}

// Fetch implements plugin.Fetcher. Its errors name scheme, host and path, never the query, user or headers.
func (f *fetcher) Fetch(ctx context.Context, r *plugin.FetchRequest) (*plugin.FetchResponse, error) {
	u, err := parse(r.URL)
	if err != nil {
		return nil, err
	}
	timeout, limit := r.Timeout, r.MaxBytes
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := f.fetch(ctx, u, r, limit)
	if err != nil {
		return nil, fmt.Errorf("fetch %s://%s%s: %w", u.Scheme, u.Host, u.EscapedPath(), bare(ctx, err, timeout))
	}
	return out, nil
}

// parse reads a URL that may be fetched.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("fetch: wanted an http or https URL, found one that does not parse") // the parser's error repeats it
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("fetch: wanted an http or https URL, found scheme %q", u.Scheme)
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("fetch: wanted a URL with a host")
	case u.User != nil:
		return nil, errors.New("fetch: wanted a URL without user and password: send them in a header")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func (f *fetcher) fetch(ctx context.Context, u *url.URL, r *plugin.FetchRequest, limit int64) (*plugin.FetchResponse, error) {
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), body)
	if err != nil {
		return nil, errors.New("wanted a method that is a token")
	}
	req.Header.Set("User-Agent", "causeway")
	for i := range r.Header {
		switch key := r.Header[i].Key; key {
		case "host":
			req.Host = r.Header[i].Value
		case "user-agent":
			req.Header.Set(key, r.Header[i].Value)
		case "connection", "content-length", "transfer-encoding", "upgrade", "trailer", "te", "keep-alive", "proxy-connection":
			return nil, fmt.Errorf("header %q is the connection's own", key)
		default:
			req.Header.Add(key, r.Header[i].Value)
		}
	}
	// The transport itself, not a client: it follows nothing and keeps no cookies.
	resp, err := f.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is given up
	if resp.ContentLength > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	out := &plugin.FetchResponse{Status: resp.StatusCode, Body: raw}
	for key, values := range resp.Header {
		for _, v := range values {
			out.Header = append(out.Header, rpc.Pair{Key: strings.ToLower(key), Value: v})
		}
	}
	return out, nil
}

// bare takes what may be secret out of an error.
func bare(ctx context.Context, err error, timeout time.Duration) error {
	if a, ok := errors.AsType[*errAddress](err); ok {
		return a
	}
	if ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
		}
		return ctx.Err()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
