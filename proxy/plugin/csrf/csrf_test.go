package csrf

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "null", Config: `{trusted_origins: ["null"]}`, Path: "trusted_origins[0]", Want: "sandboxed", Fix: "remove"},
		{Name: "every", Config: `{trusted_origins: ["*"]}`, Path: "trusted_origins[0]", Want: "whole origin", Fix: "in full"},
		{Name: "below", Config: `{trusted_origins: ["https://a.com", "https://*.a.com"]}`, Path: "trusted_origins[1]", Want: "whole origin", Fix: "in full"},
		{Name: "a page", Config: `{trusted_origins: ["https://a.com/x"]}`, Path: "trusted_origins[0]", Want: "wanted an origin", Fix: "https://a.com"},
		{Name: "no secret", Config: `{token: {}}`, Path: "token.secrets", Want: "no secrets", Fix: "32 bytes"},
		{Name: "short", Config: `{token: {secrets: [` + secret + `, short]}}`, Path: "token.secrets[1]", Want: "found 5", Fix: "openssl"},
		{Name: "cookie", Config: `{token: {secrets: [` + secret + `], cookie: "a;b"}}`, Path: "token.cookie", Want: "not the name of a cookie", Fix: "letters"},
		{Name: "prefix", Config: `{token: {secrets: [` + secret + `], cookie: "__Host-a"}}`, Path: "token.cookie", Want: "not the name of a cookie", Fix: "by itself"},
		{Name: "session", Config: `{token: {secrets: [` + secret + `], session_cookie: "a=b"}}`, Path: "token.session_cookie", Want: "not the name of a cookie", Fix: "letters"},
		{Name: "header", Config: `{token: {secrets: [` + secret + `], header: Cookie}}`, Path: "token.header", Want: "cannot carry", Fix: "x-csrf-token"},
		{Name: "ttl", Config: `{token: {secrets: [` + secret + `], ttl: 0s}}`, Path: "token.ttl", Want: "found 0s", Fix: "3600s"},
	})
}

func TestPages(t *testing.T) {
	const config = `{trusted_origins: ["https://app.example.com", "http://Dev.example.com:3000", "https://kiosk.example.com"]}`
	for _, tc := range []struct {
		name, method, header string // names and values with | between
		change               func(*rpc.HTTP)
		passes               bool
	}{
		{"no browser", "POST", "", nil, true},
		{"same origin", "POST", "sec-fetch-site|same-origin|origin|http://api.example.com", nil, true},
		{"the user", "POST", "sec-fetch-site|none", nil, true},
		{"same site", "POST", "sec-fetch-site|same-site|origin|https://evil.example.com", nil, false},
		{"cross site", "POST", "sec-fetch-site|cross-site|origin|https://evil.com", nil, false},
		{"cross site without origin", "POST", "sec-fetch-site|cross-site", nil, false},
		{"cross site that says another origin", "POST", "sec-fetch-site|cross-site|origin|http://api.example.com", nil, false},
		{"trusted", "POST", "sec-fetch-site|cross-site|origin|https://app.example.com", nil, true},
		{"trusted with a port", "POST", "sec-fetch-site|same-site|origin|http://dev.example.com:3000", nil, true},
		{"trusted on another port", "POST", "sec-fetch-site|cross-site|origin|https://app.example.com:8443", nil, false},
		{"trusted by another scheme", "POST", "sec-fetch-site|cross-site|origin|http://app.example.com", nil, false},
		{"something new", "POST", "sec-fetch-site|cousin", nil, false},
		{"said twice", "POST", "sec-fetch-site|none|sec-fetch-site|none", nil, false},
		{"empty", "POST", "sec-fetch-site|", nil, false},

		{"old, own", "POST", "origin|http://api.example.com", nil, true},
		{"old, own by TLS in front", "POST", "origin|https://api.example.com", nil, true},
		{"old, own without TLS", "POST", "origin|http://api.example.com", func(h *rpc.HTTP) { h.Scheme = "https" }, false},
		{"old, own with a port", "POST", "origin|http://api.example.com:8080", func(h *rpc.HTTP) { h.Port = "8080" }, true},
		{"old, own with its scheme's port", "POST", "origin|http://api.example.com", func(h *rpc.HTTP) { h.Port = "80" }, true},
		{"old, another port", "POST", "origin|http://api.example.com:8080", nil, false},
		{"old, another port of the gateway", "POST", "origin|http://api.example.com", func(h *rpc.HTTP) { h.Port = "8080" }, false},
		{"old, an address", "POST", "origin|http://[2001:db8::1]:8080", func(h *rpc.HTTP) { h.Host, h.Port = "2001:db8::1", "8080" }, true},
		{"old, an address without port", "POST", "origin|http://[2001:db8::1]", func(h *rpc.HTTP) { h.Host = "[2001:db8::1]" }, true},
		{"old, another address", "POST", "origin|http://[2001:db8::2]", func(h *rpc.HTTP) { h.Host = "2001:db8::1" }, false},
		{"old, null", "POST", "origin|null", nil, false},
		{"old, empty", "POST", "origin|", nil, false},
		{"old, no host", "POST", "origin|http://", func(h *rpc.HTTP) { h.Host = "" }, false},
		{"old, cross", "POST", "origin|https://evil.com", nil, false},
		{"old, trusted", "POST", "origin|https://app.example.com", nil, true},
		{"old, said twice", "POST", "origin|http://api.example.com|origin|https://evil.com", nil, false},
		{"old, trusted but for a long s", "POST", "origin|https://kio\u017fk.example.com", nil, false},
		{"old, trusted but for the Kelvin sign", "POST", "origin|https://\u212aiosk.example.com", nil, false},
		{"old, trusted but for a dot", "POST", "origin|https://k\u0130osk.example.com", nil, false},
		{"old, own as Unicode folds it", "POST", "origin|http://\u212aiosk.example.com", func(h *rpc.HTTP) { h.Host = "kiosk.example.com" }, false},
		{"very old, trusted but for the Kelvin sign", "POST", "referer|https://\u212aiosk.example.com/", nil, false},
		{"very old, the same encoded", "POST", "referer|https://%E2%84%AAiosk.example.com/", nil, false},
		{"old, longer", "POST", "origin|http://api.example.com.evil.com", nil, false},
		{"old, another scheme", "POST", "origin|ftp://api.example.com", nil, false},

		{"very old, own", "POST", "referer|http://api.example.com/page?x", nil, true},
		{"very old, trusted", "POST", "referer|https://app.example.com/", nil, true},
		{"very old, cross", "POST", "referer|https://evil.com/http://api.example.com/", nil, false},
		{"very old, user", "POST", "referer|http://api.example.com@evil.com/", nil, false},
		{"very old, no URL", "POST", "referer|http://a b/", nil, false},

		{"PUT", "PUT", "origin|https://evil.com", nil, false},
		{"PATCH", "PATCH", "origin|https://evil.com", nil, false},
		{"DELETE", "DELETE", "origin|https://evil.com", nil, false},
		{"a verb of one's own", "get", "origin|https://evil.com", nil, false},
		{"GET", "GET", "sec-fetch-site|cross-site|origin|https://evil.com", nil, true},
		{"HEAD", "HEAD", "origin|https://evil.com", nil, true},
		{"OPTIONS", "OPTIONS", "origin|https://evil.com", nil, true},
		{"WebSocket", "GET", "upgrade|websocket|origin|https://evil.com", nil, false},
		{"WebSocket of HTTP/2", "CONNECT", "origin|https://evil.com", nil, false},
		{"WebSocket without Upgrade", "GET", "sec-websocket-key|a|origin|https://evil.com", nil, false},
		{"own WebSocket", "GET", "upgrade|websocket|origin|http://api.example.com", nil, true},
		{"WebSocket of no browser", "GET", "upgrade|websocket", nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := &plugintest.Next{}
			var header []string
			if tc.header != "" {
				header = strings.Split(tc.header, "|")
			}
			c := plugintest.Call(tc.method, "/v1/orders", header...)
			if tc.change != nil {
				tc.change(c.HTTP)
			}
			err := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(next).Handle(t.Context(), c)
			if !tc.passes {
				plugintest.Refused(t, err, codes.PermissionDenied, 403, "CROSS_ORIGIN")
			} else if err != nil {
				t.Error(err)
			}
			if (next.Calls == 1) != tc.passes || len(c.HTTP.Answer) != 0 {
				t.Errorf("want passed %v, found %d calls, answer %v", tc.passes, next.Calls, c.HTTP.Answer)
			}
		})
	}
	c := plugintest.Call("POST", "/", "origin", "https://evil.com")
	c.HTTP = nil
	if err := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(&plugintest.Next{}).Handle(t.Context(), c); err != nil {
		t.Errorf("want what is no HTTP through, found %v", err)
	}
}

// page is a browser's page with its cookies, in front of the plugin.
type page struct {
	t       *testing.T
	h       rpc.Handler
	scheme  string
	cookies map[string]string
	last    *rpc.Call
}

func (p *page) send(method string, header ...string) error {
	var cookies []string
	for k, v := range p.cookies {
		cookies = append(cookies, k+"="+v)
	}
	if len(cookies) > 0 {
		header = append(header, "cookie", strings.Join(cookies, "; "))
	}
	c := plugintest.Call(method, "/", append(header, "sec-fetch-site", "same-origin")...)
	c.HTTP.Scheme = p.scheme
	p.last = c
	err := p.h.Handle(p.t.Context(), c)
	if set := c.HTTP.Answer.Get("set-cookie"); set != "" {
		pair, attributes, _ := strings.Cut(set, "; ")
		name, value, _ := strings.Cut(pair, "=")
		want := "Path=/; Max-Age=3600; SameSite=Lax"
		if p.scheme == "https" {
			want += "; Secure"
		}
		if attributes != want || strings.HasPrefix(name, "__Host-") != (p.scheme == "https") || c.HTTP.Answer.Get("vary") != "cookie" {
			p.t.Errorf("found %q", set)
		}
		p.cookies[name] = value
	}
	return err
}

func TestTokens(t *testing.T) {
	const first, second = "first-secret-0123456789abcdef0123", "second-secret-0123456789abcdef012"
	now := time.Unix(1_800_000_000, 0)
	env := plugintest.Env(t)
	env.Now = func() time.Time { return now }
	plug := func(secrets string) rpc.Handler {
		return plugintest.New(t, Kind, env, `{token: {secrets: [`+secrets+`], session_cookie: sid}}`).Wrap(&plugintest.Next{})
	}
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			p := &page{t: t, h: plug(first), scheme: scheme, cookies: map[string]string{"sid": "ann"}}
			name := map[string]string{"http": "csrf-token", "https": "__Host-csrf-token"}[scheme]
			refused := func(what string, err error) {
				t.Helper()
				if err == nil {
					t.Errorf("%s: want it refused", what)
					return
				}
				plugintest.Refused(t, err, codes.PermissionDenied, 403, "CSRF_TOKEN")
			}
			passes := func(what string, err error) {
				t.Helper()
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			refused("no token yet", p.send("POST"))
			if p.cookies[name] != "" {
				t.Error("want no token with a refusal")
			}
			passes("the page", p.send("GET"))
			token := p.cookies[name]
			if len(token) != 75 {
				t.Fatalf("found %q", p.cookies)
			}
			passes("the token", p.send("POST", "x-csrf-token", token))
			if p.last.Header.Has("x-csrf-token") || strings.Contains(p.last.Header.Get("cookie"), token) || !strings.Contains(p.last.Header.Get("cookie"), "sid=ann") {
				t.Errorf("want the token taken out, found %v", p.last.Header)
			}
			passes("no new one", p.send("GET"))
			if p.cookies[name] != token {
				t.Error("want the token kept while it is good")
			}
			refused("only the cookie", p.send("POST"))
			refused("another header", p.send("POST", "x-csrf-token", token[1:]))
			refused("two headers", p.send("POST", "x-csrf-token", token, "x-csrf-token", token))
			refused("an empty header", p.send("POST", "x-csrf-token", ""))
			refused("a token in a query", p.send("DELETE"))
			delete(p.cookies, name)
			refused("only the header", p.send("POST", "x-csrf-token", token))
			p.cookies[name] = "made-up"
			refused("both made up", p.send("POST", "x-csrf-token", "made-up"))
			p.cookies[name] = ""
			refused("both empty", p.send("POST", "x-csrf-token", ""))
			for i := range token {
				other := token[:i] + string(token[i]^1) + token[i+1:]
				if p.cookies[name] = other; p.send("POST", "x-csrf-token", other) == nil {
					t.Errorf("byte %d does not count", i)
				}
			}
			p.cookies[name] = token
			if scheme == "https" { // a cookie that another host below the domain may set
				p.cookies["csrf-token"], p.cookies[name] = token, ""
				refused("a cookie without prefix", p.send("POST", "x-csrf-token", token))
				delete(p.cookies, "csrf-token")
				p.cookies[name] = token
			}
			p.cookies["sid"] = "bob"
			refused("another session", p.send("POST", "x-csrf-token", token))
			p.cookies["sid"] = "ann"
			passes("the session again", p.send("POST", "x-csrf-token", token))
			p.h = plug(second + "," + first)
			passes("after a change of secrets", p.send("POST", "x-csrf-token", token))
			p.h = plug(second)
			refused("after the old one is gone", p.send("POST", "x-csrf-token", token))
			p.h = plug(first)
			now = now.Add(1801 * time.Second)
			passes("renewal", p.send("GET"))
			if p.cookies[name] == token {
				t.Error("want a new token in its second half")
			}
			p.cookies[name] = token
			passes("the old one, still good", p.send("POST", "x-csrf-token", token))
			now = now.Add(1799 * time.Second)
			refused("the old one, over", p.send("POST", "x-csrf-token", token))
			passes("WebSocket", p.send("GET", "upgrade", "websocket"))
			p.last = nil
			if c := plugintest.Call("POST", "/", "sec-fetch-site", "cross-site", "x-csrf-token", token, "cookie", name+"="+token+"; sid=ann"); true {
				c.HTTP.Scheme = scheme
				plugintest.Refused(t, p.h.Handle(t.Context(), c), codes.PermissionDenied, 403, "CROSS_ORIGIN")
			}
		})
	}
}

// Where TLS ends in front of the gateway, it is said.
func TestSecure(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{token: {secrets: [0123456789abcdef0123456789abcdef], secure: true, cookie: c, header: X-T, ttl: 60s}}`).Wrap(&plugintest.Next{})
	c := plugintest.Call("GET", "/")
	if err := h.Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	set := c.HTTP.Answer.Get("set-cookie")
	pair, attributes, _ := strings.Cut(set, "; ")
	name, token, _ := strings.Cut(pair, "=")
	if name != "__Host-c" || attributes != "Path=/; Max-Age=60; SameSite=Lax; Secure" {
		t.Errorf("found %q", set)
	}
	if err := h.Handle(t.Context(), plugintest.Call("POST", "/", "x-t", token, "cookie", pair)); err != nil {
		t.Error(err)
	}
}

// No text but one that was signed is a good token.
func FuzzGood(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	tk := &tokens{secrets: [][]byte{[]byte("0123456789abcdef0123456789abcdef")}, ttl: time.Hour, now: func() time.Time { return now }, cookie: "c"}
	payload := binary.BigEndian.AppendUint64(nil, uint64(now.Add(time.Hour).Unix())) //nolint:gosec // after 1970
	payload = append(payload, "0123456789abcdef"...)                                 // the same nonce in every process of the fuzzer
	given := base64.RawURLEncoding.EncodeToString(append(payload, sign(tk.secrets[0], payload, "")...))
	f.Add("", "")
	f.Add(given, "")
	f.Add(given, "session")
	f.Add(strings.Repeat("A", 75), "")
	f.Add(given+"=", "")
	f.Fuzz(func(t *testing.T, token, session string) {
		if _, ok := tk.good(token, session); ok != (token == given && session == "") {
			t.Errorf("%q in %q: %v", token, session, ok)
		}
	})
}

func handling(t testing.TB) rpc.Handler {
	return plugintest.New(t, Kind, plugintest.Env(t), `{trusted_origins: ["https://app.example.com"]}`).Wrap(&plugintest.Next{})
}

func TestHandleAllocs(t *testing.T) {
	plugintest.Allocs(t, 0, handling(t), plugintest.Call("POST", "/", "sec-fetch-site", "same-origin", "origin", "http://api.example.com"))
	plugintest.Allocs(t, 0, handling(t), plugintest.Call("POST", "/"))
}

func BenchmarkHandle(b *testing.B) {
	h, c, ctx := handling(b), plugintest.Call("POST", "/", "sec-fetch-site", "same-origin", "origin", "http://api.example.com"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
