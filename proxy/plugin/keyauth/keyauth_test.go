package keyauth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	keyauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/keyauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

const (
	aliceKey = "alice-key-0123456789"
	bobKey   = "bob-key-0123456789"
)

var (
	alice = &rpc.Consumer{Name: "alice"}
	bob   = &rpc.Consumer{Name: "bob", Groups: []string{"staff"}, GroupList: "staff"}
)

// bobDigest is the digest of bob's key.
func bobDigest() string {
	sum := sha256.Sum256([]byte(bobKey))
	return hex.EncodeToString(sum[:])
}

// env has alice by her key, and bob by the digest of his.
func env(t testing.TB) plugin.Env {
	e := plugintest.Env(t)
	e.Credentials = []plugin.Credential{
		{Consumer: alice, Config: &keyauthv1.Credential{Key: aliceKey}, Path: "consumers[0].credentials[0].config"},
		{Consumer: bob, Config: &keyauthv1.Credential{KeySha256: strings.ToUpper(bobDigest())}, Path: "consumers[1].credentials[0].config"},
	}
	return e
}

func TestKeys(t *testing.T) {
	const all = `{authorization: true, query: key}`
	long := strings.Repeat("k", maxKey+1)
	for _, tc := range []struct {
		name, config, query string
		header              []string
		consumer            string // "": refused
		reason              string
		forwarded           rpc.Metadata
		left                string // of the query
	}{
		{name: "header", config: `{}`, header: []string{"x-api-key", aliceKey, "a", "b"}, consumer: "alice", forwarded: rpc.Metadata{{Key: "a", Value: "b"}}},
		{name: "digest", config: `{}`, header: []string{"x-api-key", bobKey}, consumer: "bob"},
		{name: "every spelling is taken out", config: `{}`, header: []string{"x_api_key", "other", "x-api-key", bobKey, "x-api_key", "z"}, consumer: "bob"},
		{name: "another header", config: `{header: X-Token}`, header: []string{"x-token", bobKey, "x-api-key", "stays"}, consumer: "bob", forwarded: rpc.Metadata{{Key: "x-api-key", Value: "stays"}}},
		{name: "forward", config: `{forward: true}`, header: []string{"x-api-key", bobKey}, consumer: "bob", forwarded: rpc.Metadata{{Key: "x-api-key", Value: bobKey}}},
		{name: "forward what was checked", config: `{forward: true, authorization: true}`, header: []string{"authorization", "Bearer forged", "x-api-key", bobKey}, consumer: "bob", forwarded: rpc.Metadata{{Key: "x-api-key", Value: bobKey}}},
		{name: "bearer", config: all, header: []string{"authorization", "Bearer " + aliceKey}, consumer: "alice"},
		{name: "apikey", config: all, header: []string{"authorization", "aPIkEY " + aliceKey}, consumer: "alice"},
		{name: "query", config: all, query: "a=1&key=" + aliceKey + "&b", consumer: "alice", left: "a=1&b"},
		{name: "query is taken out also where keys are forwarded", config: `{query: key, forward: true}`, query: "k%65y=" + aliceKey, consumer: "alice"},
		{name: "header before query", config: all, header: []string{"x-api-key", bobKey}, query: "key=" + aliceKey, consumer: "bob"},
		{name: "another scheme is another's", config: all, header: []string{"authorization", "Basic YTpi", "x-api-key", bobKey}, consumer: "bob", forwarded: rpc.Metadata{{Key: "authorization", Value: "Basic YTpi"}}},

		{name: "nothing", config: all, reason: plugin.ReasonMissing},
		{name: "another scheme", config: all, header: []string{"authorization", "Basic YTpi"}, reason: plugin.ReasonMissing},
		{name: "scheme alone", config: all, header: []string{"authorization", "Bearer"}, reason: plugin.ReasonMissing},
		{name: "no authorization unless told", config: `{}`, header: []string{"authorization", "Bearer " + aliceKey}, reason: plugin.ReasonMissing},
		{name: "no query unless told", config: `{}`, query: "key=" + aliceKey + "&x-api-key=" + aliceKey, reason: plugin.ReasonMissing},
		{name: "another spelling of the header", config: `{}`, header: []string{"x_api_key", aliceKey}, reason: plugin.ReasonMissing},
		{name: "unknown", config: all, header: []string{"x-api-key", "mallory-key-0123456"}, reason: plugin.ReasonInvalid},
		{name: "unknown in the query", config: all, query: "key=mallory", left: "key=mallory", reason: plugin.ReasonInvalid},
		{name: "empty", config: all, header: []string{"x-api-key", ""}, reason: plugin.ReasonInvalid},
		{name: "empty bearer", config: all, header: []string{"authorization", "Bearer "}, reason: plugin.ReasonInvalid},
		{name: "the digest is not the key", config: `{}`, header: []string{"x-api-key", bobDigest()}, reason: plugin.ReasonInvalid},
		{name: "a prefix", config: `{}`, header: []string{"x-api-key", aliceKey[:19]}, reason: plugin.ReasonInvalid},
		{name: "longer", config: `{}`, header: []string{"x-api-key", aliceKey + "0"}, reason: plugin.ReasonInvalid},
		{name: "case", config: `{}`, header: []string{"x-api-key", strings.ToUpper(aliceKey)}, reason: plugin.ReasonInvalid},
		{name: "twice", config: `{}`, header: []string{"x-api-key", aliceKey, "x-api-key", aliceKey}, reason: plugin.ReasonInvalid},
		{name: "two", config: `{}`, header: []string{"x-api-key", aliceKey, "x-api-key", "x"}, reason: plugin.ReasonInvalid},
		{name: "joined", config: `{}`, header: []string{"x-api-key", aliceKey + ", " + bobKey}, reason: plugin.ReasonInvalid},
		{name: "two in the query", config: all, query: "key=x&key=" + aliceKey, left: "key=x&key=" + aliceKey, reason: plugin.ReasonInvalid},
		{name: "a wrong header is not made up for by the query", config: all, header: []string{"x-api-key", "wrong"}, query: "key=" + aliceKey, left: "key=" + aliceKey, reason: plugin.ReasonInvalid},
		{name: "too long", config: `{}`, header: []string{"x-api-key", long}, reason: plugin.ReasonInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := plugintest.New(t, Kind, env(t), tc.config)
			var forwarded rpc.Metadata
			next := &plugintest.Next{}
			c := plugintest.Call("GET", "/", tc.header...)
			c.HTTP.Query = tc.query
			before := c.Clone().Header
			err := p.Wrap(next).Handle(t.Context(), c)
			if tc.consumer == "" {
				e := plugintest.Refused(t, err, codes.Unauthenticated, 0, tc.reason)
				if next.Calls != 0 || e.Header.Get("www-authenticate") != challenge || c.Consumer != nil {
					t.Errorf("%d calls came through, header %v", next.Calls, e.Header)
				}
				if d := cmp.Diff(before, c.Header); d != "" || c.HTTP.Query != tc.query {
					t.Errorf("a refusal has changed the call: %s %s", d, c.HTTP.Query)
				}
				if s := (&e).Error(); strings.Contains(s, "key-0123") {
					t.Errorf("the error tells the key: %s", s)
				}
				return
			}
			if err != nil || next.Calls != 1 || c.ConsumerName() != tc.consumer || c.HTTP.Query != tc.left {
				t.Fatalf("found %q, %v, query %q", c.ConsumerName(), err, c.HTTP.Query)
			}
			for _, h := range c.Header {
				if h.Key != plugin.ConsumerHeader && h.Key != plugin.GroupsHeader {
					forwarded = append(forwarded, h)
				}
			}
			if d := cmp.Diff(tc.forwarded, forwarded); d != "" {
				t.Errorf("forwarded: %s", d)
			}
		})
	}
}

// The service is shown the key that was checked, whatever else came in as metadata of that name.
func TestForwardsWhatWasChecked(t *testing.T) {
	p := plugintest.New(t, Kind, env(t), `{forward: true, authorization: true}`).(plugin.Authenticator)
	for _, tc := range []struct{ header, value, key string }{{"x-api-key", bobKey, "x-api-key"}, {"authorization", "ApiKey " + bobKey, "authorization"}} {
		c := plugintest.Call("GET", "/", tc.header, tc.value)
		c.Header = rpc.Metadata{{Key: "x-api-key", Value: "forged"}, {Key: "authorization", Value: "bearer forged"}, {Key: "x_api_key", Value: "forged"}}
		if err := p.Authenticate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rpc.Metadata{{Key: tc.key, Value: tc.value}}, c.Header); d != "" {
			t.Error(d)
		}
	}
}

// A call that did not come by HTTP has its metadata.
func TestWithoutHTTP(t *testing.T) {
	p := plugintest.New(t, Kind, env(t), `{query: key, authorization: true}`)
	c := &rpc.Call{Header: rpc.Metadata{{Key: "x-api-key", Value: bobKey}}}
	if err := p.(plugin.Authenticator).Authenticate(t.Context(), c); err != nil || c.ConsumerName() != "bob" || len(c.Header) != 0 {
		t.Errorf("found %q %v %v", c.ConsumerName(), err, c.Header)
	}
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "no header", Config: `{header: "x api"}`, Path: "header", Want: "not the name", Fix: "letters"},
		{Name: "protocol", Config: `{header: grpc-key}`, Path: "header", Want: "alone", Fix: "another"},
		{Name: "identity", Config: `{header: X_Consumer_Key}`, Path: "header", Want: "alone", Fix: "another"},
		{Name: "connection", Config: `{header: Cookie}`, Path: "header", Want: "alone", Fix: "another"},
		{Name: "authorization", Config: `{header: Authorization}`, Path: "header", Want: "scheme", Fix: "authorization: true"},
	})
}

func TestCredentialFaults(t *testing.T) {
	for _, tc := range []struct {
		name string
		conf *keyauthv1.Credential
		want string
	}{
		{"nothing", &keyauthv1.Credential{}, "x: a credential without a key"},
		{"both", &keyauthv1.Credential{Key: "12345678", KeySha256: "00"}, "x: both `key` and `key_sha256`"},
		{"short", &keyauthv1.Credential{Key: "1234567"}, "x.key: a key of fewer than 8 characters can be guessed"},
		{"spaces", &keyauthv1.Credential{Key: " 12345678"}, "x.key: wanted printable ascii without spaces around it, at most 4096 characters"},
		{"umlaut", &keyauthv1.Credential{Key: "schlüssel"}, "x.key: wanted printable ascii without spaces around it, at most 4096 characters"},
		{"no digest", &keyauthv1.Credential{KeySha256: "abc"}, "x.key_sha256: wanted 64 hexadecimal digits"},
		{"another's", &keyauthv1.Credential{Key: aliceKey}, "x: the key is consumer \"alice\"'s already"},
	} {
		e := env(t)
		e.Credentials = append(e.Credentials, plugin.Credential{Consumer: bob, Config: tc.conf, Path: "x"})
		_, err := Kind.New(&keyauthv1.KeyAuth{}, e)
		f, ok := errors.AsType[*plugin.Fault](err)
		if !ok || f.Error() != tc.want || f.Fix == "" {
			t.Errorf("%s: found %v", tc.name, err)
		}
	}
}

// The keys that the configuration masks in its faults.
func TestSecretsAreMarked(t *testing.T) {
	fields := (&keyauthv1.Credential{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); !strings.Contains(f.Options().(interface{ String() string }).String(), "debug_redact:true") {
			t.Errorf("%s is not marked", f.FullName())
		}
	}
}

func TestAllocs(t *testing.T) {
	p := plugintest.New(t, Kind, env(t), `{authorization: true, query: key}`)
	c := plugintest.Call("GET", "/", "x-api-key", bobKey, "a", "b")
	plugintest.Allocs(t, 0, p.Wrap(&plugintest.Next{}), c)
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, env(b), `{}`).Wrap(&plugintest.Next{})
	c := plugintest.Call("GET", "/", "user-agent", "x", "accept", "*/*", "traceparent", "00-1-2-3", "x-api-key", bobKey)
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(b.Context(), c)
	}
}
