package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server of key sets, as its fetcher sees it.
type script struct {
	mu     sync.Mutex
	answer func(ctx context.Context, url string) (*plugin.FetchResponse, error)
	calls  atomic.Int64
}

// Fetch implements plugin.Fetcher.
func (s *script) Fetch(ctx context.Context, r *plugin.FetchRequest) (*plugin.FetchResponse, error) {
	s.calls.Add(1)
	if r.Timeout != 2*time.Second || r.MaxBytes != 1<<20 {
		return nil, fmt.Errorf("fetched with %v, %d", r.Timeout, r.MaxBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	s.mu.Lock()
	f := s.answer
	s.mu.Unlock()
	return f(ctx, r.URL)
}

func (s *script) set(f func(ctx context.Context, url string) (*plugin.FetchResponse, error)) {
	s.mu.Lock()
	s.answer = f
	s.mu.Unlock()
}

// serve answers with a key set.
func (s *script) serve(keys ...string) { s.say(200, `{"keys":[`+strings.Join(keys, ",")+`]}`) }

func (s *script) say(status int, body string) {
	s.set(func(context.Context, string) (*plugin.FetchResponse, error) {
		return &plugin.FetchResponse{Status: status, Body: []byte(body)}, nil
	})
}

var errDown = errors.New("down")

func (s *script) down() {
	s.set(func(context.Context, string) (*plugin.FetchResponse, error) { return nil, errDown })
}

const setConfig = `{key_sets: [{url: "https://issuer.example/keys"}]}`

// show has the plugin look at a token.
func show(t testing.TB, p *jwtAuth, token string) error {
	t.Helper()
	return p.Authenticate(t.Context(), plugintest.Call("GET", "/", "authorization", "Bearer "+token))
}

func reasonOf(err error) string {
	e, ok := errors.AsType[*rpc.Error](err)
	if !ok {
		return fmt.Sprint(err)
	}
	return e.Reason
}

// startSet makes a plugin with a key set, once the first fetch is over.
func startSet(t *testing.T, s *script, clk *clock, config string) *jwtAuth {
	t.Helper()
	env := plugintest.Env(t)
	env.Fetch = s
	p := newTest(t, env, clk, config)
	for _, set := range p.sets {
		t.Cleanup(func() { _ = set.Close() })
		set.idle()
	}
	return p
}

// idle waits until no fetch runs.
func (s *keySet) idle() {
	s.mu.Lock()
	flight := s.flight
	s.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

// Keys of every kind are read, each for its algorithm.
func TestKeySetAlgorithms(t *testing.T) {
	all := testSigners(t)
	for _, alg := range asymmetric() {
		for _, more := range []string{`,"alg":"` + alg + `"`, `,"use":"sig","key_ops":["verify"],"alg":"` + alg + `"`} {
			s := &script{}
			own := all.own[alg]
			s.serve(own.jwk("k", more))
			p := startSet(t, s, &clock{}, setConfig)
			if err := show(t, p, own.token(t, "k", claimsAt(noon, ""))); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
			if err := show(t, p, own.token(t, "", claimsAt(noon, ""))); err != nil {
				t.Errorf("%s without kid: %v", alg, err)
			}
			if err := show(t, p, all.other[alg].token(t, "k", claimsAt(noon, ""))); reasonOf(err) != plugin.ReasonInvalid {
				t.Errorf("%s by another key: %v", alg, err)
			}
			for _, said := range algorithms {
				if said != alg {
					if err := show(t, p, all.own[said].token(t, "k", claimsAt(noon, ""))); reasonOf(err) != plugin.ReasonInvalid {
						t.Errorf("%s for a key of %s: %v", said, alg, err)
					}
				}
			}
		}
	}
}

// Keys that are not for this are passed over; the others stay.
func TestKeySetPassesOver(t *testing.T) {
	all := testSigners(t)
	rs, es := all.own["RS256"], all.own["ES256"]
	for _, tc := range []struct{ name, key, config string }{
		{"encryption", rs.jwk("k", `,"use":"enc"`), ""},
		{"other operations", rs.jwk("k", `,"key_ops":["sign"]`), ""},
		{"symmetric", all.own["HS256"].jwk("k", `,"alg":"HS256"`), ""},
		{"algorithm of a secret", rs.jwk("k", `,"alg":"HS256"`), ""},
		{"algorithm none", rs.jwk("k", `,"alg":"none"`), ""},
		{"algorithm of another curve", es.jwk("k", `,"alg":"ES384"`), ""},
		{"algorithm a number", es.jwk("k", `,"alg":1`), ""},
		{"kid a number", strings.Replace(es.jwk("k", ""), `"k"`, "7", 1), ""},
		{"kid long", es.jwk(strings.Repeat("k", 257), ""), ""},
		{"small RSA", `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + strings.Repeat("_", 171) + `"}`, ""},
		{"huge RSA", `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + strings.Repeat("_", 2000) + `"}`, ""},
		{"even exponent", strings.Replace(rs.jwk("k", ""), "AQAB", "AQAC", 1), ""},
		{"exponent one", strings.Replace(rs.jwk("k", ""), "AQAB", "AQ", 1), ""},
		{"huge exponent", strings.Replace(rs.jwk("k", ""), "AQAB", "_______", 1), ""},
		{"no n", `{"kty":"RSA","kid":"k","e":"AQAB"}`, ""},
		{"not on the curve", `{"kty":"EC","crv":"P-256","kid":"k","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`, ""},
		{"short coordinates", `{"kty":"EC","crv":"P-256","kid":"k","x":"AAAA","y":"AAAA"}`, ""},
		{"another curve", `{"kty":"EC","crv":"secp256k1","kid":"k","x":"AAAA","y":"AAAA"}`, ""},
		{"X25519", `{"kty":"OKP","crv":"X25519","kid":"k","x":"` + strings.Repeat("A", 43) + `"}`, ""},
		{"no type", `{"kid":"k"}`, ""},
		{"not asked for", es.jwk("k", ""), `, algorithms: [EdDSA]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &script{}
			ed := all.own["EdDSA"]
			s.serve(tc.key, ed.jwk("good", ""))
			p := startSet(t, s, &clock{}, `{key_sets: [{url: "https://issuer.example/keys"`+tc.config+`}]}`)
			ring := p.sets[0].ring.Load()
			if ring == nil || len(ring.all) != 1 || ring.all[0].id != "good" {
				t.Fatalf("found %+v", ring)
			}
			if err := show(t, p, ed.token(t, "good", claimsAt(noon, ""))); err != nil {
				t.Error(err)
			}
		})
	}
	// A key that does not say its algorithm has the first that is asked for.
	s := &script{}
	s.serve(rs.jwk("k", ""))
	p := startSet(t, s, &clock{}, `{key_sets: [{url: "https://issuer.example/keys", algorithms: [ES256, PS384, RS256]}]}`)
	if err := show(t, p, signer{alg: "PS384", private: rs.private}.token(t, "k", claimsAt(noon, ""))); err != nil {
		t.Error(err)
	}
	if err := show(t, p, rs.token(t, "k", claimsAt(noon, ""))); reasonOf(err) != plugin.ReasonInvalid {
		t.Error(err)
	}
}

// A kid that is not known has the set fetched, so that a new key is good at once.
func TestRotation(t *testing.T) {
	all := testSigners(t)
	before, after := all.own["RS256"], all.own["ES256"]
	s, clk := &script{}, &clock{}
	s.serve(before.jwk("1", ""))
	p := startSet(t, s, clk, setConfig)
	old := before.token(t, "1", claimsAt(noon, ""))
	if err := show(t, p, old); err != nil {
		t.Fatal(err)
	}
	s.serve(before.jwk("1", ""), after.jwk("2", ""))
	if err := show(t, p, after.token(t, "2", claimsAt(noon, ""))); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if v := p.cache.get(old); v == nil || v.key.gone.Load() {
		t.Error("what the old key signed is forgotten though it stays")
	}
	// The old one goes: tokens remembered or not, it is good no longer after one fetch.
	s.serve(after.jwk("2", ""))
	clk.move(askEvery)
	if err := show(t, p, after.token(t, "3", claimsAt(noon, ""))); reasonOf(err) != plugin.ReasonInvalid {
		t.Errorf("a kid that is not there: %v", err)
	}
	if err := show(t, p, old); reasonOf(err) != plugin.ReasonInvalid {
		t.Errorf("a token of a removed key, remembered: %v", err)
	}
	if err := show(t, p, before.token(t, "1", claimsAt(noon, `,"x":1`))); reasonOf(err) != plugin.ReasonInvalid {
		t.Errorf("a token of a removed key: %v", err)
	}
	// The same kid with another key is another key.
	s.serve(before.jwk("2", ""))
	clk.move(askEvery)
	kept := after.token(t, "2", claimsAt(noon, ""))
	_ = show(t, p, after.token(t, "4", claimsAt(noon, "")))
	if err := show(t, p, kept); reasonOf(err) != plugin.ReasonInvalid {
		t.Errorf("a token of the former key with the kid: %v", err)
	}
}

// Whatever kids callers send, the server is asked once in 30 s, and who shows a good token waits for nothing.
func TestUnknownKids(t *testing.T) {
	own := testSigners(t).own["EdDSA"]
	s, clk := &script{}, &clock{}
	s.serve(own.jwk("k", ""))
	p := startSet(t, s, clk, setConfig)
	good := own.token(t, "k", claimsAt(noon, ""))
	flood := func(n int) {
		for i := range n {
			if err := show(t, p, own.token(t, fmt.Sprintf("random-%d-%d", clk.ahead.Load(), i), claimsAt(noon, ""))); reasonOf(err) != plugin.ReasonInvalid {
				t.Fatal(err)
			}
			if i%100 == 0 {
				if err := show(t, p, good); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	flood(1000)
	if n := s.calls.Load(); n != 2 {
		t.Errorf("fetched %d times: want the first time, and once for all unknown kids", n)
	}
	for range 3 {
		clk.move(askEvery)
		flood(300)
	}
	if n := s.calls.Load(); n != 5 {
		t.Errorf("fetched %d times in 90 s, want 5", n)
	}
	// One kid again and again is remembered as missing.
	clk.move(askEvery)
	for range 50 {
		_ = show(t, p, own.token(t, "forgotten", claimsAt(noon, "")))
		clk.move(askEvery)
	}
	if n := s.calls.Load(); n != 6 {
		t.Errorf("fetched %d times for one kid that is not there, want 6", n)
	}
	// No more than so many are.
	s.down()
	set := p.sets[0]
	set.mu.Lock()
	for i := range maxUnknown - 1 {
		set.unknown[strconv.Itoa(i)] = struct{}{}
	}
	set.mu.Unlock()
	for range 3 {
		clk.move(askEvery)
		_ = show(t, p, own.token(t, fmt.Sprintf("another-%d", clk.ahead.Load()), claimsAt(noon, "")))
	}
	set.mu.Lock()
	defer set.mu.Unlock()
	if n := len(set.unknown); n != maxUnknown || s.calls.Load() < 9 { // beside these, it tries again by itself
		t.Errorf("%d kids are remembered after %d fetches", n, s.calls.Load())
	}
}

// Many who need the same fetch share one, and each waits no longer than its own call may take.
func TestOneFlight(t *testing.T) {
	own := testSigners(t).own["ES256"]
	s, clk := &script{}, &clock{}
	s.serve()
	p := startSet(t, s, clk, setConfig)
	release := make(chan struct{})
	s.set(func(ctx context.Context, _ string) (*plugin.FetchResponse, error) {
		select {
		case <-release:
			return &plugin.FetchResponse{Status: 200, Body: []byte(`{"keys":[` + own.jwk("k", "") + `]}`)}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	token := own.token(t, "k", claimsAt(noon, ""))
	errs := make(chan error)
	const callers = 200
	for range callers {
		go func() { errs <- show(t, p, token) }()
	}
	for waiting := 0; waiting < callers; {
		p.sets[0].mu.Lock()
		waiting = p.sets[0].waiting
		p.sets[0].mu.Unlock()
	}
	// One that has no time.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Authenticate(ctx, plugintest.Call("GET", "/", "authorization", "Bearer "+token)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without time: %v", err)
	}
	p.sets[0].mu.Lock()
	p.sets[0].waiting += maxWaiting - callers
	p.sets[0].mu.Unlock()
	if err := show(t, p, token); reasonOf(err) != ReasonUnavailable {
		t.Errorf("one too many: %v", err)
	}
	p.sets[0].mu.Lock()
	p.sets[0].waiting -= maxWaiting - callers
	p.sets[0].mu.Unlock()
	close(release)
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := s.calls.Load(); n != 2 {
		t.Errorf("fetched %d times, want 2", n)
	}
}

// A server that does not give a set, or one that cannot be, changes nothing until the set is too old.
func TestKeySetDown(t *testing.T) {
	own := testSigners(t).own["RS256"]
	many := make([]string, maxKeys+1)
	for i := range many {
		many[i] = own.jwk(strconv.Itoa(i), "")
	}
	for _, tc := range []struct {
		name string
		set  func(s *script)
	}{
		{"down", (*script).down},
		{"status", func(s *script) { s.say(500, `{"keys":[]}`) }},
		{"redirect", func(s *script) { s.say(302, `{"keys":[]}`) }},
		{"no JSON", func(s *script) { s.say(200, `<html>`) }},
		{"no set", func(s *script) { s.say(200, `{}`) }},
		{"keys an object", func(s *script) { s.say(200, `{"keys":{}}`) }},
		{"a key that is none", func(s *script) { s.say(200, `{"keys":[1]}`) }},
		{"twice", func(s *script) { s.say(200, `{"keys":[],"keys":[]}`) }},
		{"too many", func(s *script) { s.serve(many...) }},
		{"deep", func(s *script) { s.say(200, `{"keys":`+strings.Repeat("[", 1000)) }},
		{"panic", func(s *script) {
			s.set(func(context.Context, string) (*plugin.FetchResponse, error) { panic("fetch") })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, clk := &script{}, &clock{}
			s.serve(own.jwk("k", ""))
			p := startSet(t, s, clk, `{allow_missing_exp: true, key_sets: [{url: "https://issuer.example/keys", keep: 7200s}]}`)
			token := own.token(t, "k", `{"sub":"u"}`)
			if err := show(t, p, token); err != nil {
				t.Fatal(err)
			}
			tc.set(s)
			_ = show(t, p, own.token(t, "unknown", `{}`))
			if n := s.calls.Load(); n != 2 {
				t.Fatalf("fetched %d times", n)
			}
			for _, text := range []string{token, own.token(t, "k", `{"sub":"v"}`)} {
				if err := show(t, p, text); err != nil {
					t.Errorf("with the last set: %v", err)
				}
			}
			clk.move(2*time.Hour - time.Second)
			if err := show(t, p, token); err != nil {
				t.Errorf("just before it is too old: %v", err)
			}
			clk.move(time.Second)
			for _, text := range []string{token, own.token(t, "k", `{"sub":"w"}`)} {
				err := show(t, p, text)
				plugintest.Refused(t, err, codes.Unavailable, 0, ReasonUnavailable)
			}
			s.serve(own.jwk("k", ""))
			clk.move(askEvery)
			if err := show(t, p, token); err != nil {
				t.Errorf("the server is back: %v", err)
			}
		})
	}
}

// With a server that is down from the start nobody comes in, and once it is up all do.
func TestKeySetDownAtFirst(t *testing.T) {
	own := testSigners(t).own["RS256"]
	s, clk := &script{}, &clock{}
	s.down()
	p := startSet(t, s, clk, setConfig)
	token := own.token(t, "k", claimsAt(noon, ""))
	err := show(t, p, token)
	plugintest.Refused(t, err, codes.Unavailable, 0, ReasonUnavailable)
	s.serve(own.jwk("k", ""))
	clk.move(askEvery)
	if err := show(t, p, token); err != nil {
		t.Error(err)
	}
}

// The set is fetched again by itself; what is removed goes with it.
func TestRefreshByItself(t *testing.T) {
	own := testSigners(t).own["RS256"]
	s, clk := &script{}, &clock{}
	s.serve(own.jwk("k", ""))
	env := plugintest.Env(t)
	env.Fetch, env.Now = s, clk.now
	made := make(chan *keySet, 1)
	env.Keep = func(_ string, create func() (any, error)) (any, error) {
		v, err := create()
		if set, ok := v.(*keySet); ok {
			made <- set
		}
		return v, err
	}
	p := newTest(t, env, clk, setConfig)
	set := <-made
	defer set.Close()
	set.idle()
	token := own.token(t, "k", claimsAt(noon, ""))
	if err := show(t, p, token); err != nil {
		t.Fatal(err)
	}
	// As its timer does: the goroutine is woken without a call that asks.
	s.serve()
	set.mu.Lock()
	set.flight = make(chan struct{})
	set.mu.Unlock()
	set.asked <- struct{}{}
	set.idle()
	if err := show(t, p, token); reasonOf(err) != plugin.ReasonInvalid {
		t.Errorf("after the key was removed: %v", err)
	}
}

// Close ends the goroutine and lets go of who waits.
func TestClose(t *testing.T) {
	own := testSigners(t).own["RS256"]
	s := &script{}
	asked := make(chan struct{})
	s.set(func(ctx context.Context, _ string) (*plugin.FetchResponse, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	env := plugintest.Env(t)
	env.Fetch = s
	p := newTest(t, env, &clock{}, setConfig)
	<-asked
	ended := make(chan error)
	go func() { ended <- show(t, p, own.token(t, "k", claimsAt(noon, ""))) }()
	for waiting := 0; waiting == 0; {
		p.sets[0].mu.Lock()
		waiting = p.sets[0].waiting
		p.sets[0].mu.Unlock()
	}
	if err := p.sets[0].Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; reasonOf(err) != ReasonUnavailable {
		t.Errorf("who waited: %v", err)
	}
	if err := show(t, p, own.token(t, "k", claimsAt(noon, ""))); reasonOf(err) != ReasonUnavailable {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOpenID(t *testing.T) {
	own := testSigners(t).own["RS256"]
	const issuer = "https://issuer.example"
	for _, tc := range []struct {
		name, discovery string
		ok              bool
	}{
		{"good", `{"issuer":"https://issuer.example","jwks_uri":"https://keys.example/set"}`, true},
		{"another issuer", `{"issuer":"https://evil.example","jwks_uri":"https://keys.example/set"}`, false},
		{"no issuer", `{"jwks_uri":"https://keys.example/set"}`, false},
		{"no keys", `{"issuer":"https://issuer.example"}`, false},
		{"without TLS", `{"issuer":"https://issuer.example","jwks_uri":"http://keys.example/set"}`, false},
		{"twice", `{"issuer":"https://issuer.example","issuer":"https://issuer.example","jwks_uri":"https://keys.example/set"}`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &script{}
			s.set(func(_ context.Context, url string) (*plugin.FetchResponse, error) {
				switch url {
				case issuer + "/.well-known/openid-configuration":
					return &plugin.FetchResponse{Status: 200, Body: []byte(tc.discovery)}, nil
				case "https://keys.example/set", "http://keys.example/set":
					return &plugin.FetchResponse{Status: 200, Body: []byte(`{"keys":[` + own.jwk("k", "") + `]}`)}, nil
				}
				return nil, errors.New(url)
			})
			p := startSet(t, s, &clock{}, `{key_sets: [{openid: "https://issuer.example"}]}`)
			err := show(t, p, own.token(t, "k", claimsAt(noon, "")))
			if tc.ok != (err == nil) || !tc.ok && reasonOf(err) != ReasonUnavailable {
				t.Errorf("found %v", err)
			}
			// Another issuer's token is not for this set, whoever signed it.
			err = show(t, p, own.token(t, "k", strings.Replace(claimsAt(noon, ""), issuer, "https://other.example", 1)))
			if reasonOf(err) != plugin.ReasonInvalid {
				t.Errorf("another issuer: %v", err)
			}
		})
	}
}

// FuzzKeySet: whatever a server sends, a set is read or refused, and holds only keys that can check something.
func FuzzKeySet(f *testing.F) {
	for _, alg := range algorithms {
		f.Add(`{"keys":[` + testSigners(f).own[alg].jwk("k", `,"alg":"`+alg+`"`) + `]}`)
	}
	f.Add(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"EC","crv":"P-521","x":"","y":null},{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		ks, _, err := readSet([]byte(text), nil)
		if err == nil && len(ks) > maxKeys {
			t.Fatalf("%d keys", len(ks))
		}
		for _, k := range ks {
			if k.method == nil || k.print == "" || strings.HasPrefix(k.method.Alg(), "HS") || suits(k.material, k.method.Alg()) != nil {
				t.Errorf("found %+v", k)
			}
			if k.checks("text", nil) || k.checks("text", make([]byte, 64)) {
				t.Error("a signature of nothing holds")
			}
		}
	})
}
