package basicauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"

	basicauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/basicauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

// Known hashes: of the reference implementation of argon2 (test.c) and of its documentation, and bcrypt's of others.
const (
	argonHash  = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	bcryptHash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW" // "U*U", of crypt_blowfish's own tests
)

func credential(name, hash, password string) *basicauthv1.Credential {
	return &basicauthv1.Credential{Username: name, PasswordHash: hash, Password: password}
}

// env has one consumer for each credential, named as its user.
func env(t testing.TB, creds ...*basicauthv1.Credential) plugin.Env {
	e := plugintest.Env(t)
	for i, c := range creds {
		e.Credentials = append(e.Credentials, plugin.Credential{Consumer: &rpc.Consumer{Name: c.GetUsername()}, Config: c, Path: fmt.Sprintf("c[%d]", i)})
	}
	return e
}

func standardEnv(t testing.TB) plugin.Env {
	return env(t, credential("argon", argonHash, ""), credential("bcrypt", bcryptHash, ""), credential("plain", "", "a plain: password"), credential("grüße", "", "schön"))
}

func newTest(t testing.TB, e plugin.Env, config string) *basicAuth {
	t.Helper()
	return plugintest.New(t, Kind, e, config).(*basicAuth)
}

func basic(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }

// show shows a name and a password.
func show(p *basicAuth, ctx context.Context, text string) (*rpc.Call, error) { //nolint:revive // the context is the case's
	c := plugintest.Call("GET", "/", "authorization", basic(text))
	return c, p.Authenticate(ctx, c)
}

func TestHashes(t *testing.T) {
	for _, tc := range []struct {
		hash, password string
		want           bool
	}{
		{argonHash, "password", true},
		{argonHash, "Password", false},
		{argonHash, "", false},
		{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password", true},
		{bcryptHash, "U*U", true},
		{bcryptHash, "U*V", false},
		{strings.Replace(bcryptHash, "$2a$", "$2y$", 1), "U*U", true},
		{strings.Replace(bcryptHash, "$2a$", "$2b$", 1), "U*U", true},
	} {
		h, err := readHash(tc.hash)
		if err != nil {
			t.Errorf("%s: %v", tc.hash, err)
			continue
		}
		if got := h.matches([]byte(tc.password)); got != tc.want {
			t.Errorf("%s of %q: %v", tc.hash, tc.password, got)
		}
		if h.dummy().matches([]byte(tc.password)) || h.dummy().cost() != h.cost() {
			t.Errorf("%s: its dummy matches, or costs another", tc.hash)
		}
	}
	// What bcrypt would not look at is looked at.
	long := strings.Repeat("x", bcryptMost)
	text, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHash(string(text))
	if err != nil || !h.matches([]byte(long)) || h.matches([]byte(long+"y")) {
		t.Error("more than 72 bytes match", err)
	}
}

func TestPasswords(t *testing.T) {
	for _, tc := range []struct {
		name, config, shown string
		more                []string
		want, reason        string
	}{
		{name: "argon2id", shown: basic("argon:password"), want: "argon"},
		{name: "bcrypt", shown: basic("bcrypt:U*U"), want: "bcrypt"},
		{name: "plain, with a colon", shown: basic("plain:a plain: password"), want: "plain"},
		{name: "not ASCII", shown: basic("grüße:schön"), want: "grüße"},
		{name: "scheme in any case", shown: "bASIC  " + basic("argon:password")[6:], want: "argon"},
		{name: "forward", config: "forward: true", shown: basic("argon:password"), want: "argon"},
		{name: "nothing", reason: plugin.ReasonMissing},
		{name: "another scheme", shown: "Bearer abc", reason: plugin.ReasonMissing},
		{name: "wrong password", shown: basic("argon:Password"), reason: plugin.ReasonInvalid},
		{name: "another's password", shown: basic("argon:U*U"), reason: plugin.ReasonInvalid},
		{name: "no password", shown: basic("argon:"), reason: plugin.ReasonInvalid},
		{name: "the hash for a password", shown: basic("argon:" + argonHash), reason: plugin.ReasonInvalid},
		{name: "nobody", shown: basic("mallory:password"), reason: plugin.ReasonInvalid},
		{name: "no name", shown: basic(":password"), reason: plugin.ReasonInvalid},
		{name: "another case", shown: basic("Argon:password"), reason: plugin.ReasonInvalid},
		{name: "the colon elsewhere", shown: basic("plain:a plain:: password"), reason: plugin.ReasonInvalid},
		{name: "name and password run together", shown: basic("plai:na plain: password"), reason: plugin.ReasonInvalid},
		{name: "no colon", shown: basic("argon"), reason: plugin.ReasonInvalid},
		{name: "not base64", shown: "Basic ***", reason: plugin.ReasonInvalid},
		{name: "not all base64", shown: basic("argon:password") + "!", reason: plugin.ReasonInvalid},
		{name: "empty", shown: "Basic ", reason: plugin.ReasonInvalid},
		{name: "long name", shown: basic(strings.Repeat("n", maxName+1) + ":p"), reason: plugin.ReasonInvalid},
		{name: "long password", shown: basic("argon:" + strings.Repeat("p", maxPassword+1)), reason: plugin.ReasonInvalid},
		{name: "very long", shown: basic("argon:" + strings.Repeat("p", 1<<20)), reason: plugin.ReasonInvalid},
		{name: "twice", shown: basic("argon:password"), more: []string{"authorization", basic("argon:password")}, reason: plugin.ReasonInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTest(t, standardEnv(t), "{"+tc.config+"}")
			for range 2 { // checked, and remembered
				header := tc.more
				if tc.shown != "" {
					header = append([]string{"authorization", tc.shown}, tc.more...)
				}
				c := plugintest.Call("GET", "/", header...)
				before := c.Clone().Header
				next := &plugintest.Next{}
				err := p.Wrap(next).Handle(t.Context(), c)
				if tc.want == "" {
					e := plugintest.Refused(t, err, codes.Unauthenticated, 0, tc.reason)
					if d := cmp.Diff(before, c.Header); d != "" || next.Calls != 0 || c.Consumer != nil || e.Header.Get("www-authenticate") != `Basic realm="causeway", charset="UTF-8"` {
						t.Errorf("%d calls came through, header %v\n%s", next.Calls, e.Header, d)
					}
					continue
				}
				if err != nil || c.ConsumerName() != tc.want || c.Header.Has("authorization") != (tc.config != "") {
					t.Errorf("found %q %v %v", c.ConsumerName(), err, c.Header)
				}
			}
		})
	}
}

// Whether there is a user or not, a wrong password costs one hash of the same kind (C7); a right one costs one once.
func TestHashesAreCounted(t *testing.T) {
	p := newTest(t, env(t, credential("a", argonHash, ""), credential("b", bcryptHash, "")), "{}")
	count := func(text string) int64 {
		before := p.hashed.Load()
		_, _ = show(p, t.Context(), text)
		return p.hashed.Load() - before
	}
	for i, tc := range []struct {
		text string
		want int64
	}{
		{"a:wrong", 1},
		{"a:wrong", 1},
		{"b:wrong", 1},
		{"nobody:wrong", 1},
		{"nobody:wrong", 1},
		{"somebody:", 1},
		{":", 1},
		{"a:", 1},
		{"a:password", 1},
		{"a:password", 0},
		{"a:password", 0},
		{"a:passwore", 1},
		{"b:password", 1},
		{"b:U*U", 1},
		{"b:U*U", 0},
	} {
		if n := count(tc.text); n != tc.want {
			t.Errorf("step %d, %s: %d hashes, want %d", i, tc.text, n, tc.want)
		}
	}
	// Names that there are not have users' costs, each always the same one.
	costs := map[string]int{}
	cost := func(name string) string {
		return p.others[p.place(name)].hash.cost()
	}
	for i := range 1000 {
		name := fmt.Sprintf("nobody-%d", i)
		costs[cost(name)]++
		if cost(name) != cost(name) { //nolint:staticcheck // twice on purpose
			t.Error("a name's cost changes")
		}
	}
	if len(costs) != 2 || costs[p.users["a"].hash.cost()] < 300 || costs[p.users["b"].hash.cost()] < 300 {
		t.Errorf("costs of unknown names: %v", costs)
	}
}

// TestProofTiming: 20,000 samples each of users that there are and are not, interleaved, with a wrong password. What others
// do on the machine shifts a mean now and then, what tells users apart always.
func TestProofTiming(t *testing.T) {
	samples, takes := 500, 1
	proof := os.Getenv("CAUSEWAY_PROOF") != ""
	if proof {
		samples, takes = 20000, 3
	}
	cheap := "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	p := newTest(t, env(t, credential("known", cheap, ""), credential("other", cheap, "")), "{}")
	same := false
	for take := 1; take <= takes && !same; take++ {
		diff, welch := timing(t, p, samples)
		same = math.Abs(welch) < 4.5 && math.Abs(diff) < 1000
		if p.hashed.Load() != int64(2*samples*take) {
			t.Errorf("%d hashes for %d tries", p.hashed.Load(), 2*samples*take)
		}
	}
	if proof && !same {
		t.Error("users can be told from their times: want t below 4.5 and means that differ by less than 1 us")
	}
}

// timing is by how many nanoseconds the means differ, and Welch's t.
func timing(t *testing.T, p *basicAuth, samples int) (diff, welch float64) {
	t.Helper()
	var n [2]float64
	var mean, m2 [2]float64
	for i := range 2 * samples {
		kind := i % 2
		name := []string{"known", "knowm"}[kind]
		start := time.Now()
		_, err := p.check(t.Context(), name, "wrong password")
		took := float64(time.Since(start))
		if err != nil {
			t.Fatal(err)
		}
		if took > 1e6 { // the scheduler's
			continue
		}
		n[kind]++
		d := took - mean[kind]
		mean[kind] += d / n[kind]
		m2[kind] += d * (took - mean[kind])
	}
	diff = mean[0] - mean[1]
	welch = diff / math.Sqrt(m2[0]/(n[0]-1)/n[0]+m2[1]/(n[1]-1)/n[1])
	t.Logf("PROOF %.0f and %.0f samples: means %.0f ns and %.0f ns, Welch t %.2f", n[0], n[1], mean[0], mean[1], welch)
	return diff, welch
}

// slow is a hash that takes until it is let go.
type slow struct {
	argon
	entered, release chan struct{}
}

func (s *slow) matches([]byte) bool {
	s.entered <- struct{}{}
	<-s.release
	return true
}

// So many are computed at one moment; the others wait as long as their calls may take, and too many are refused.
func TestConcurrency(t *testing.T) {
	p := newTest(t, env(t, credential("a", argonHash, "")), "{concurrency: 2}")
	s := &slow{entered: make(chan struct{}), release: make(chan struct{})}
	p.users["a"].hash = s
	ended := make(chan error)
	try := func(i int) {
		go func() {
			_, err := show(p, t.Context(), fmt.Sprintf("a:%d", i))
			ended <- err
		}()
	}
	for i := range 5 {
		try(i)
	}
	<-s.entered
	<-s.entered
	for p.queue.Load() != 3 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := show(p, ctx, "a:x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one without time: %v", err)
	}
	p.queue.Add(p.waiting - 3) // as if so many more waited
	_, err := show(p, t.Context(), "a:y")
	plugintest.Refused(t, err, codes.Unavailable, 0, ReasonOverloaded)
	p.queue.Add(3 - p.waiting)
	select {
	case <-s.entered:
		t.Error("a third hash is computed")
	default:
	}
	for range 3 {
		s.release <- struct{}{}
		<-s.entered
	}
	s.release <- struct{}{}
	s.release <- struct{}{}
	for range 5 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if p.queue.Load() != 0 || len(p.slots) != 0 || p.known.Len() != 5 {
		t.Errorf("%d wait, %d are computed, %d are remembered", p.queue.Load(), len(p.slots), p.known.Len())
	}
}

// What is remembered is bounded, and holds no password.
func TestRemembered(t *testing.T) {
	p := newTest(t, env(t, credential("a", argonHash, "")), "{}")
	for i := range remembered + 10 {
		p.known.Add(p.digest("x", fmt.Sprint(i)), p.users["a"]) //nolint:perfsprint // a test
	}
	if p.known.Len() != remembered {
		t.Errorf("%d passwords are remembered", p.known.Len())
	}
	other := newTest(t, env(t, credential("a", argonHash, "")), "{}")
	if p.digest("a", "b") == other.digest("a", "b") {
		t.Error("two plugins have one secret")
	}
	if p.digest("ab", "c") == p.digest("a", "bc") {
		t.Error("name and password run together")
	}
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "realm", Config: `{realm: 'a"b'}`, Path: "realm", Want: "without quotes", Fix: "letters"},
		{Name: "concurrency", Config: `{concurrency: 65}`, Path: "concurrency", Want: "at most 64, found 65", Fix: "write 2"},
	})
	for _, tc := range []struct {
		name string
		conf *basicauthv1.Credential
		want string
	}{
		{"no name", credential("", argonHash, ""), "c[1].username: a credential without a name"},
		{"colon", credential("a:b", argonHash, ""), "c[1].username: wanted a name without a colon and line ends, of at most 256 bytes"},
		{"twice", credential("first", "", "x"), `c[1].username: the name "first" is consumer "first"'s already`},
		{"no password", credential("a", "", ""), "c[1]: a credential without a password"},
		{"both", credential("a", argonHash, "x"), "c[1]: both `password_hash` and `password`"},
		{"long", credential("a", "", strings.Repeat("x", 1025)), "c[1].password: wanted at most 1024 bytes"},
		{"a password for a hash", credential("a", "hunter2", ""), "c[1].password_hash: wanted an argon2id hash in PHC form, or bcrypt"},
		{"MD5", credential("a", "$apr1$x$y", ""), "c[1].password_hash: wanted an argon2id hash in PHC form, or bcrypt"},
		{"argon2i", credential("a", strings.Replace(argonHash, "2id", "2i", 1), ""), "c[1].password_hash: wanted argon2id, found another argon2"},
		{"an old argon2", credential("a", strings.Replace(argonHash, "v=19", "v=16", 1), ""), "c[1].password_hash: " + errPHC.Error()},
		{"no time", credential("a", strings.Replace(argonHash, "t=2,", "", 1), ""), "c[1].password_hash: " + errPHC.Error()},
		{"time twice", credential("a", strings.Replace(argonHash, "t=2,", "t=2,t=2,", 1), ""), "c[1].password_hash: " + errPHC.Error()},
		{"memory for all", credential("a", strings.Replace(argonHash, "m=256", "m=4194304", 1), ""), "c[1].password_hash: argon2id of m=4194304,t=2,p=1: at most m=262144,t=16,p=16 is taken, as each call needs that"},
		{"little memory", credential("a", strings.Replace(argonHash, "m=256", "m=7", 1), ""), "c[1].password_hash: argon2id of m=7,p=1: m is at least 8 times p"},
		{"short salt", credential("a", strings.Replace(argonHash, "c29tZXNhbHQ", "c29t", 1), ""), "c[1].password_hash: " + errPHC.Error()},
		{"padding", credential("a", argonHash+"=", ""), "c[1].password_hash: " + errPHC.Error()},
		{"expensive", credential("a", strings.Replace(bcryptHash, "$05$", "$15$", 1), ""), "c[1].password_hash: a bcrypt hash of cost 15: at most 14 is taken, as each call would take seconds"},
		{"cut", credential("a", bcryptHash[:59], ""), "c[1].password_hash: a bcrypt hash that does not parse"},
		{"not its alphabet", credential("a", bcryptHash[:58]+"!W", ""), "c[1].password_hash: a bcrypt hash that does not parse"},
	} {
		_, err := Kind.New(&basicauthv1.BasicAuth{}, env(t, credential("first", argonHash, ""), tc.conf))
		f, ok := errors.AsType[*plugin.Fault](err)
		if !ok || f.Error() != tc.want || f.Fix == "" {
			t.Errorf("%s: found %v", tc.name, err)
		}
	}
}

// FuzzHash: whatever stands in a configuration, a hash is read or refused, and what is read can be computed.
func FuzzHash(f *testing.F) {
	f.Add(argonHash)
	f.Add(bcryptHash)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$2y$04$" + strings.Repeat(".", 53))
	f.Fuzz(func(t *testing.T, text string) {
		h, err := readHash(text)
		if err != nil {
			return
		}
		switch h := h.(type) {
		case *argon:
			if h.memory > 64 || h.time > 2 {
				return // valid, and too slow for here
			}
		case *crypted:
			if h.rank > 4 {
				return
			}
		}
		if h.matches([]byte("no such password \x00")) || h.dummy().matches(nil) {
			t.Errorf("%q matches", text)
		}
	})
}

func TestAllocs(t *testing.T) {
	p := newTest(t, standardEnv(t), "{}")
	c := plugintest.Call("GET", "/", "authorization", basic("argon:password"))
	plugintest.Allocs(t, 1, p.Wrap(&plugintest.Next{}), c) // the name and the password
}

func BenchmarkRemembered(b *testing.B) {
	p := newTest(b, standardEnv(b), "{}")
	h, c := p.Wrap(&plugintest.Next{}), plugintest.Call("GET", "/", "authorization", basic("argon:password"))
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(b.Context(), c)
	}
}

func BenchmarkHash(b *testing.B) {
	for _, text := range []string{"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", strings.Replace(bcryptHash, "$05$", "$10$", 1)} {
		h, err := readHash(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(h.cost(), func(b *testing.B) {
			for b.Loop() {
				_ = h.matches([]byte("password"))
			}
		})
	}
}
