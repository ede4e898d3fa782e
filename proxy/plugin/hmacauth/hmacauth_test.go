package hmacauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	hmacauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/hmacauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const secret = "0123456789abcdef0123456789abcdef"

// start is when the tests' clock stands.
var start = time.Unix(1_800_000_000, 0)

// env has one consumer, and a clock that can be turned.
func env(t testing.TB, clock *time.Time) plugin.Env {
	t.Helper()
	e := plugintest.Env(t)
	e.Now = func() time.Time { return *clock }
	e.Credentials = []plugin.Credential{{
		Consumer: &rpc.Consumer{Name: "shop"}, Path: "consumers[0].credentials[0].config",
		Config: &hmacauthv1.Credential{KeyId: "k1", Secret: secret},
	}}
	kept := map[string]any{}
	e.Keep = func(name string, create func() (any, error)) (any, error) {
		if v, ok := kept[name]; ok {
			return v, nil
		}
		v, err := create()
		kept[name] = v
		return v, err
	}
	return e
}

// received is a body that was received.
type received struct {
	raw []byte
	err error
}

func (b received) Raw(context.Context) ([]byte, error) { return b.raw, b.err }

func (b received) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	return &rpc.Message{Data: b.raw}, b.err
}

// signed is a request with a signature over components; parameters stand behind them.
type signed struct {
	method, path, query, body string
	components                []string
	parameters                string
	secret                    string
}

func request() signed {
	return signed{
		method: "POST", path: "/v1/orders", query: "a=1&b=%20", body: `{"x":1}`, secret: secret,
		components: []string{"@method", "@path", "@query", "content-digest"},
		parameters: fmt.Sprintf(`;created=%d;keyid="k1";nonce="n%d"`, start.Unix(), rand.Uint64()),
	}
}

func (s signed) call() *rpc.Call {
	c := plugintest.Call(s.method, s.path)
	c.HTTP.Query = s.query
	sum := sha256.Sum256([]byte(s.body))
	header := func(k, v string) {
		c.HTTP.Header.Add(k, v)
		c.Header.Add(k, v)
	}
	header("content-digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
	header("x-tenant", " t9 ")
	quoted := make([]string, len(s.components))
	var base strings.Builder
	for i, name := range s.components {
		quoted[i] = `"` + name + `"`
		v := map[string]string{
			"@method": s.method, "@path": s.path, "@query": "?" + s.query, "@authority": "api.example.com", "@scheme": "http",
			"@target-uri": "http://api.example.com" + s.path + "?" + s.query, "content-digest": c.HTTP.Header.Get("content-digest"), "x-tenant": "t9",
		}[name]
		base.WriteString(quoted[i] + ": " + v + "\n")
	}
	params := "(" + strings.Join(quoted, " ") + ")" + s.parameters
	base.WriteString(`"@signature-params": ` + params)
	mac := hmac.New(sha256.New, []byte(s.secret))
	mac.Write([]byte(base.String()))
	header("signature-input", "sig1="+params)
	header("signature", "sig1=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	c.Body = received{raw: []byte(s.body)}
	return c
}

func TestRFC9421Example(t *testing.T) { // appendix B.2.5
	shared, err := base64.StdEncoding.DecodeString("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
	if err != nil {
		t.Fatal(err)
	}
	h := &rpc.HTTP{Method: "POST", Scheme: "https", Host: "example.com", Path: "/foo", Header: rpc.Metadata{
		{Key: "date", Value: "Tue, 20 Apr 2021 02:07:55 GMT"},
		{Key: "content-type", Value: "application/json"},
		{Key: "signature-input", Value: `sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`},
		{Key: "signature", Value: "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"},
	}}
	s, err := parse(h.Header)
	if err != nil {
		t.Fatal(err)
	}
	base, err := s.base(h)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, shared)
	mac.Write(base)
	if !hmac.Equal(mac.Sum(nil), s.mac) {
		t.Errorf("another signature over\n%s", base)
	}
}

func TestAccepted(t *testing.T) {
	for name, change := range map[string]func(*signed){
		"as it is": func(*signed) {},
		"more": func(s *signed) {
			s.components = append(s.components, "x-tenant", "@authority", "@scheme", "@target-uri")
		},
		"no body":        func(s *signed) { s.body, s.components = "", s.components[:3] },
		"no query":       func(s *signed) { s.query = "" },
		"the algorithm":  func(s *signed) { s.parameters += `;alg="hmac-sha256"` },
		"it ends":        func(s *signed) { s.parameters += fmt.Sprintf(";expires=%d;tag=\"x\"", start.Unix()+1) },
		"as old as can":  func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="n"`, start.Unix()-300) },
		"as new as can":  func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="n"`, start.Unix()+300) },
		"another method": func(s *signed) { s.method = "DELETE" },
	} {
		t.Run(name, func(t *testing.T) {
			clock := start
			p := plugintest.New(t, Kind, env(t, &clock), "{}")
			s := request()
			change(&s)
			c, next := s.call(), &plugintest.Next{}
			if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			if next.Calls != 1 || c.ConsumerName() != "shop" || c.Header.Has("signature") || c.Header.Has("signature-input") || c.Header.Has("content-digest") {
				t.Errorf("%d calls by %q with %v", next.Calls, c.ConsumerName(), c.Header)
			}
		})
	}
}

// Whatever is changed after it was signed, or is not signed that has to be, is refused.
func TestRefused(t *testing.T) {
	sign := func(change func(*signed)) func() *rpc.Call {
		return func() *rpc.Call {
			s := request()
			change(&s)
			return s.call()
		}
	}
	after := func(change func(*rpc.Call)) func() *rpc.Call {
		return func() *rpc.Call {
			c := request().call()
			change(c)
			return c
		}
	}
	for name, call := range map[string]func() *rpc.Call{
		"method":                     after(func(c *rpc.Call) { c.HTTP.Method = "PUT" }),
		"path":                       after(func(c *rpc.Call) { c.HTTP.Path = "/v1/order" }),
		"path, encoded otherwise":    after(func(c *rpc.Call) { c.HTTP.Path = "/v1/%6frders" }),
		"query":                      after(func(c *rpc.Call) { c.HTTP.Query = "a=2" }),
		"query, no more":             after(func(c *rpc.Call) { c.HTTP.Query = "" }),
		"body":                       after(func(c *rpc.Call) { c.Body = received{raw: []byte(`{"x":2}`)} }),
		"body, no more":              after(func(c *rpc.Call) { c.Body = received{} }),
		"digest":                     after(func(c *rpc.Call) { c.HTTP.Header.Set("content-digest", "sha-256=:AAAA:") }),
		"digest of another kind":     after(func(c *rpc.Call) { c.HTTP.Header.Set("content-digest", "md5=:AAAA:") }),
		"digest, not there":          after(func(c *rpc.Call) { c.HTTP.Header.Del("content-digest") }),
		"signature twice":            after(func(c *rpc.Call) { c.HTTP.Header.Add("signature", c.HTTP.Header.Get("signature")) }),
		"signature, not there":       after(func(c *rpc.Call) { c.HTTP.Header.Del("signature") }),
		"input, not there":           after(func(c *rpc.Call) { c.HTTP.Header.Del("signature-input") }),
		"signature, empty":           after(func(c *rpc.Call) { c.HTTP.Header.Set("signature", "sig1=::") }),
		"signature of another name":  after(func(c *rpc.Call) { c.HTTP.Header.Set("signature", "sig2=::") }),
		"two signatures":             after(func(c *rpc.Call) { c.HTTP.Header.Set("signature", c.HTTP.Header.Get("signature")+", sig2=:AAAA:") }),
		"a huge input":               after(func(c *rpc.Call) { c.HTTP.Header.Set("signature-input", "sig1=("+strings.Repeat(`"a" `, 5000)+")") }),
		"rubbish":                    after(func(c *rpc.Call) { c.HTTP.Header.Set("signature-input", "\x00") }),
		"a key that nobody has":      sign(func(s *signed) { s.parameters = strings.Replace(s.parameters, "k1", "k2", 1) }),
		"another secret":             sign(func(s *signed) { s.secret = "another secret of another consumer" }),
		"another algorithm":          sign(func(s *signed) { s.parameters += `;alg="rsa-v1_5-sha256"` }),
		"no time":                    sign(func(s *signed) { s.parameters = `;keyid="k1";nonce="n"` }),
		"no nonce":                   sign(func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;keyid="k1"`, start.Unix()) }),
		"no key":                     sign(func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;nonce="n"`, start.Unix()) }),
		"too old":                    sign(func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="n"`, start.Unix()-301) }),
		"too new":                    sign(func(s *signed) { s.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="n"`, start.Unix()+301) }),
		"ended":                      sign(func(s *signed) { s.parameters += fmt.Sprintf(";expires=%d", start.Unix()) }),
		"a parameter nobody knows":   sign(func(s *signed) { s.parameters += ";x=1" }),
		"method not covered":         sign(func(s *signed) { s.components = s.components[1:] }),
		"query not covered":          sign(func(s *signed) { s.components = []string{"@method", "@path", "content-digest"} }),
		"body not covered":           sign(func(s *signed) { s.components = s.components[:3] }),
		"a component twice":          sign(func(s *signed) { s.components = append(s.components, "@method") }),
		"a header that is not there": sign(func(s *signed) { s.components = append(s.components, "x-none") }),
		"a component of answers":     sign(func(s *signed) { s.components = append(s.components, "@status") }),
	} {
		t.Run(name, func(t *testing.T) {
			clock := start
			p := plugintest.New(t, Kind, env(t, &clock), "{}")
			c, next := call(), &plugintest.Next{}
			before := slices.Clone(c.Header)
			err := p.Wrap(next).Handle(t.Context(), c)
			plugintest.Refused(t, err, codes.Unauthenticated, 0, plugin.ReasonInvalid)
			if next.Calls != 0 || c.Consumer != nil || !slices.Equal(c.Header, before) {
				t.Errorf("%d calls, consumer %v", next.Calls, c.Consumer)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	clock := start
	p := plugintest.New(t, Kind, env(t, &clock), "{}")
	e := plugintest.Refused(t, p.Wrap(&plugintest.Next{}).Handle(t.Context(), plugintest.Call("GET", "/")), codes.Unauthenticated, 0, plugin.ReasonMissing)
	if e.Header.Get("www-authenticate") != challenge {
		t.Errorf("found %v", e.Header)
	}
	c := plugintest.Call("GET", "/")
	c.HTTP = nil
	plugintest.Refused(t, p.Wrap(&plugintest.Next{}).Handle(t.Context(), c), codes.Unauthenticated, 0, plugin.ReasonMissing)
}

// A body that cannot be read whole refuses the call, and so does a stream.
func TestBodyThatDoesNotArrive(t *testing.T) {
	clock := start
	p := plugintest.New(t, Kind, env(t, &clock), "{}")
	c, next := request().call(), &plugintest.Next{}
	c.Body = received{raw: []byte(`{"x"`), err: rpc.Refuse(codes.Canceled, "CLIENT_GONE", "gone")}
	plugintest.Refused(t, p.Wrap(next).Handle(t.Context(), c), codes.Canceled, 0, "CLIENT_GONE")
	c = request().call()
	c.Body = nil
	plugintest.Refused(t, p.Wrap(next).Handle(t.Context(), c), codes.Unauthenticated, 401, "BODY_NOT_SIGNED")
	if next.Calls != 0 {
		t.Errorf("%d calls", next.Calls)
	}
	s := request()
	s.components = s.components[:3]
	c = s.call()
	c.Body = nil
	if err := plugintest.New(t, Kind, env(t, &clock), "{body: optional}").Wrap(next).Handle(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// The same bytes are taken once, and not again however long one waits.
func TestReplay(t *testing.T) {
	clock := start
	e := env(t, &clock)
	p := plugintest.New(t, Kind, e, "{}")
	s := request()
	handle := func(p plugin.Plugin) error { return p.Wrap(&plugintest.Next{}).Handle(t.Context(), s.call()) }
	if err := handle(p); err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, time.Second, 299 * time.Second, 301 * time.Second, 599 * time.Second, 601 * time.Second, 1300 * time.Second} {
		clock = start.Add(later)
		plugintest.Refused(t, handle(p), codes.Unauthenticated, 0, plugin.ReasonInvalid)
	}
	clock = start
	plugintest.Refused(t, handle(plugintest.New(t, Kind, e, "{}")), codes.Unauthenticated, 0, plugin.ReasonInvalid) // made anew
	if err := handle(plugintest.New(t, Kind, e, "{replay: {off: true}}")); err != nil {
		t.Error(err)
	}
}

// A signature of the future counts for twice the window: its nonce is kept as long.
func TestReplayOfTheFuture(t *testing.T) {
	for _, offset := range []int64{0, 100, 299, 300} {
		for _, other := range []time.Duration{0, 150 * time.Second, 450 * time.Second, 580 * time.Second} {
			clock := start.Add(-other)
			p := plugintest.New(t, Kind, env(t, &clock), "{}")
			first := request()
			first.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="first"`, clock.Unix())
			if err := p.Wrap(&plugintest.Next{}).Handle(t.Context(), first.call()); err != nil { // begins a generation
				t.Fatal(err)
			}
			clock = start
			s := request()
			s.parameters = fmt.Sprintf(`;created=%d;keyid="k1";nonce="n"`, start.Unix()+offset)
			taken := 0
			for clock = start; clock.Before(start.Add(700 * time.Second)); clock = clock.Add(7 * time.Second) {
				if p.Wrap(&plugintest.Next{}).Handle(t.Context(), s.call()) == nil {
					taken++
				}
			}
			if taken != 1 {
				t.Errorf("signed %d s ahead, %s into a generation: taken %d times", offset, other, taken)
			}
		}
	}
}

func TestNoncesAreBounded(t *testing.T) {
	clock := start
	p := plugintest.New(t, Kind, env(t, &clock), "{replay: {entries: 3}}")
	for i := range 5 {
		err := p.Wrap(&plugintest.Next{}).Handle(t.Context(), request().call())
		if i < 3 && err != nil {
			t.Fatal(err)
		}
		if i >= 3 {
			plugintest.Refused(t, err, codes.Unavailable, 0, "NONCES_FULL")
		}
	}
}

// store is a store of nonces.
type store struct {
	err  error
	seen map[string]bool
}

func (s *store) Run(_ context.Context, _ *plugin.Script, keys []string, _ ...any) (any, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.seen[keys[0]] {
		return int64(0), nil
	}
	s.seen[keys[0]] = true
	return int64(1), nil
}

func TestSharedNonces(t *testing.T) {
	clock := start
	st := &store{seen: map[string]bool{}}
	gateway := func(conf string) rpc.Handler {
		e := env(t, &clock)
		e.Store = func(string) (plugin.Store, error) { return st, nil }
		return plugintest.New(t, Kind, e, conf).Wrap(&plugintest.Next{})
	}
	a, b, local := gateway("{replay: {store: main}}"), gateway("{replay: {store: main}}"), gateway("{replay: {store: main, on_error: local}}")
	s := request()
	if err := a.Handle(t.Context(), s.call()); err != nil {
		t.Fatal(err)
	}
	plugintest.Refused(t, b.Handle(t.Context(), s.call()), codes.Unauthenticated, 0, plugin.ReasonInvalid)
	st.err = errors.New("gone")
	plugintest.Refused(t, a.Handle(t.Context(), request().call()), codes.Unavailable, 0, "STORE_UNAVAILABLE")
	s = request()
	if err := local.Handle(t.Context(), s.call()); err != nil {
		t.Error(err)
	}
	plugintest.Refused(t, local.Handle(t.Context(), s.call()), codes.Unauthenticated, 0, plugin.ReasonInvalid)
}

func TestFaults(t *testing.T) {
	clock := start
	plugintest.Faults(t, Kind, env(t, &clock), []plugintest.Fault{
		{Name: "window", Config: "{window: 7200s}", Path: "window", Want: "up to 3600s", Fix: "3600s"},
		{Name: "component", Config: `{components: ["X-Tenant"]}`, Path: "components[0]", Want: "no component", Fix: "lower case"},
		{Name: "derived", Config: `{components: ["@status"]}`, Path: "components[0]", Want: "no component", Fix: "@authority"},
		{Name: "store", Config: "{replay: {store: none}}", Path: "replay.store", Want: "no store", Fix: "name a store"},
		{Name: "entries", Config: "{replay: {entries: -1}}", Path: "replay.entries", Want: "found -1", Fix: "write 1"},
	})
	e := env(t, &clock)
	e.Credentials[0].Config = &hmacauthv1.Credential{KeyId: "k", Secret: "short"}
	plugintest.Faults(t, Kind, e, []plugintest.Fault{{Name: "secret", Config: "{}", Path: "consumers[0].credentials[0].config.secret", Want: "at least 32 bytes, found 5", Fix: "openssl"}})
	e = env(t, &clock)
	e.Credentials = append(e.Credentials, e.Credentials[0])
	plugintest.Faults(t, Kind, e, []plugintest.Fault{{Name: "twice", Config: "{}", Path: "consumers[0].credentials[0].config.key_id", Want: "is a key of consumer shop already", Fix: "its own"}})
}

func TestReadme(t *testing.T) {
	clock := start
	e := env(t, &clock)
	e.Store = func(string) (plugin.Store, error) { return &store{}, nil }
	plugintest.Readme(t, Kind, e)
}

// FuzzSignature: no header panics, and none is taken that was not signed.
func FuzzSignature(f *testing.F) {
	c := request().call()
	f.Add(c.HTTP.Header.Get("signature-input"), c.HTTP.Header.Get("signature"), c.HTTP.Header.Get("content-digest"))
	f.Add(`sig1=("@method";req "a";sf);created=1`, "sig1=:AA==:", "sha-512=:AA==:, sha-256=x")
	f.Add(`sig1=();created=1.5, sig2=1`, "sig1", "")
	clock := start
	e := env(f, &clock)
	f.Fuzz(func(t *testing.T, input, mac, digest string) {
		p, err := Kind.New(&hmacauthv1.HMACAuth{}, e)
		if err != nil {
			t.Fatal(err)
		}
		c := plugintest.Call("POST", "/v1/orders", "signature-input", input, "signature", mac, "content-digest", digest)
		c.Body = received{raw: []byte("{}")}
		if err := p.Wrap(&plugintest.Next{}).Handle(t.Context(), c); err == nil {
			t.Errorf("taken: %q %q", input, mac)
		}
	})
}

// No single bit of a signed request can be changed.
func TestEveryBitCounts(t *testing.T) {
	clock := start
	p := plugintest.New(t, Kind, env(t, &clock), "{components: [x-tenant], replay: {off: true}}")
	s := request()
	s.components = append(s.components, "x-tenant")
	flip := func(text string, i int) string {
		b := []byte(text)
		b[i/8] ^= 1 << (i % 8)
		return string(b)
	}
	c := s.call()
	for i := range c.HTTP.Header {
		name := c.HTTP.Header[i].Key
		for bit := range 8 * len(c.HTTP.Header[i].Value) {
			c := s.call()
			c.HTTP.Header[i].Value = flip(c.HTTP.Header[i].Value, bit)
			if p.Wrap(&plugintest.Next{}).Handle(t.Context(), c) == nil && !harmless(name, c.HTTP.Header[i].Value, s.call().HTTP.Header[i].Value) {
				t.Errorf("%s: %q is taken", name, c.HTTP.Header[i].Value)
			}
		}
	}
	for bit := range 8 * len(s.path) {
		c := s.call()
		if c.HTTP.Path = flip(c.HTTP.Path, bit); p.Wrap(&plugintest.Next{}).Handle(t.Context(), c) == nil {
			t.Errorf("path %q is taken", c.HTTP.Path)
		}
	}
	for bit := range 8 * len(s.body) {
		c := s.call()
		if c.Body = (received{raw: []byte(flip(s.body, bit))}); p.Wrap(&plugintest.Next{}).Handle(t.Context(), c) == nil {
			t.Errorf("body %q is taken", flip(s.body, bit))
		}
	}
}

// harmless tells a change that means the same: white space around values, and bits of base64 that stand for nothing.
func harmless(name, a, b string) bool {
	if name == "signature" {
		x, errA := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(a, "sig1="), ":"))
		y, errB := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(b, "sig1="), ":"))
		return errA == nil && errB == nil && strings.HasPrefix(a, "sig1=:") && string(x) == string(y)
	}
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}

func BenchmarkAuthenticate(b *testing.B) {
	clock := start
	p, err := Kind.New(&hmacauthv1.HMACAuth{Replay: &hmacauthv1.Replay{Off: true}}, env(b, &clock))
	if err != nil {
		b.Fatal(err)
	}
	c := request().call()
	h, header := p.Wrap(&plugintest.Next{}), slices.Clone(c.Header)
	b.ReportAllocs()
	for b.Loop() {
		c.Header = append(c.Header[:0], header...)
		if err := h.Handle(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
