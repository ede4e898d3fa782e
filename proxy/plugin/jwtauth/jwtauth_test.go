package jwtauth

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	jwtauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/jwtauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

const secret = "a secret of thirty-two bytes or so"

// hs is the signer of what most tests need.
var hs = signer{alg: "HS256", private: []byte(secret)}

// withKey is a configuration with hs's key; more are further keys, with a comma before.
func withKey(more string) string {
	return fmt.Sprintf("{keys: [{algorithm: HS256, secret: %q}]%s}", secret, more)
}

func TestReadme(t *testing.T) {
	env := plugintest.Env(t)
	s := &script{}
	s.down()
	env.Fetch = s
	env.Keep = func(_ string, create func() (any, error)) (any, error) {
		v, err := create()
		if set, ok := v.(*keySet); ok {
			t.Cleanup(func() { _ = set.Close() })
		}
		return v, err
	}
	t.Setenv("SIGNER", testSigners(t).own["RS256"].pem(t))
	plugintest.Readme(t, Kind, env)
}

// Where tokens are, and what becomes of those places.
func TestCarriers(t *testing.T) {
	good := hs.token(t, "", claimsAt(noon, ""))
	bad := hs.token(t, "", claimsAt(noon.Add(-time.Hour), ""))
	for _, tc := range []struct {
		name, config, query string
		header              []string
		reason              string // "": accepted
		forwarded           rpc.Metadata
		left                string // of the query
	}{
		{name: "authorization", header: []string{"authorization", "Bearer " + good, "a", "b"}, forwarded: rpc.Metadata{{Key: "a", Value: "b"}}},
		{name: "scheme in any case", header: []string{"authorization", "BEARER  " + good}},
		{name: "forward", config: ", forward: true", header: []string{"authorization", "Bearer " + good}, forwarded: rpc.Metadata{{Key: "authorization", Value: "Bearer " + good}}},
		{name: "header", config: ", header: X-Token", header: []string{"x-token", good, "x_token", "forged", "authorization", "Basic x"}, forwarded: rpc.Metadata{{Key: "authorization", Value: "Basic x"}}},
		{name: "header with scheme", config: ", header: X-Token", header: []string{"x-token", "Bearer " + good}},
		{name: "cookie", config: ", cookie: session", header: []string{"cookie", "a=b; session=" + good + "; c=d"}, forwarded: rpc.Metadata{{Key: "cookie", Value: "a=b; c=d"}}},
		{name: "cookie alone", config: ", cookie: session", header: []string{"cookie", "session=" + good}},
		{name: "cookie forwarded", config: ", cookie: session, forward: true", header: []string{"cookie", "session=" + good}, forwarded: rpc.Metadata{{Key: "cookie", Value: "session=" + good}}},
		{name: "query", config: ", query: access_token", query: "a=1&access_token=" + good, left: "a=1"},
		{name: "header before cookie before query", config: ", header: authorization, cookie: session, query: access_token", query: "access_token=" + bad, header: []string{"authorization", "Bearer " + good, "cookie", "session=" + bad}},
		{name: "what was not checked does not stay", config: ", header: authorization, cookie: session, forward: true", header: []string{"authorization", "Bearer " + good, "cookie", "session=" + bad}, forwarded: rpc.Metadata{{Key: "authorization", Value: "Bearer " + good}}},
		{name: "cookie where the header is another scheme's", config: ", header: authorization, cookie: session", header: []string{"authorization", "Basic x", "cookie", "session=" + good}, forwarded: rpc.Metadata{{Key: "authorization", Value: "Basic x"}}},

		{name: "nothing", reason: plugin.ReasonMissing},
		{name: "another scheme", header: []string{"authorization", "Basic " + good}, reason: plugin.ReasonMissing},
		{name: "no scheme", header: []string{"authorization", good}, reason: plugin.ReasonMissing},
		{name: "a query that is not asked for", query: "access_token=" + good, left: "access_token=" + good, reason: plugin.ReasonMissing},
		{name: "a cookie that is not asked for", header: []string{"cookie", "access_token=" + good}, reason: plugin.ReasonMissing},
		{name: "authorization where another header is asked for", config: ", header: x-token", header: []string{"authorization", "Bearer " + good}, reason: plugin.ReasonMissing},
		{name: "empty", header: []string{"authorization", "Bearer "}, reason: plugin.ReasonInvalid},
		{name: "twice", header: []string{"authorization", "Bearer " + good, "authorization", "Bearer " + good}, reason: plugin.ReasonInvalid},
		{name: "two", header: []string{"authorization", "Bearer " + good, "authorization", "Bearer " + bad}, reason: plugin.ReasonInvalid},
		{name: "two, joined", header: []string{"authorization", "Bearer " + good + ", Bearer " + bad}, reason: plugin.ReasonInvalid},
		{name: "two cookies", config: ", cookie: session", header: []string{"cookie", "session=" + bad + "; session=" + good}, reason: plugin.ReasonInvalid},
		{name: "two in the query", config: ", query: t", query: "t=" + good + "&t=" + good, left: "t=" + good + "&t=" + good, reason: plugin.ReasonInvalid},
		{name: "a bad header is not made up for", config: ", header: authorization, cookie: session", header: []string{"authorization", "Bearer " + bad, "cookie", "session=" + good}, reason: plugin.ReasonInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTest(t, plugintest.Env(t), &clock{}, withKey(tc.config))
			c := plugintest.Call("GET", "/", tc.header...)
			c.HTTP.Query = tc.query
			before := c.Clone().Header
			err := p.Authenticate(t.Context(), c)
			if tc.reason != "" {
				plugintest.Refused(t, err, codes.Unauthenticated, 0, tc.reason)
				tc.forwarded = before
			} else if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.forwarded, c.Header, cmp.Transformer("empty", func(m rpc.Metadata) []rpc.Pair { return append([]rpc.Pair{}, m...) })); d != "" || c.HTTP.Query != tc.left {
				t.Errorf("query %q, metadata:\n%s", c.HTTP.Query, d)
			}
			if (c.Claims != nil) != (tc.reason == "") {
				t.Errorf("claims %v", c.Claims)
			}
		})
	}
}

// The service is shown the token that was checked, whatever else came in as metadata of that name.
func TestForwardsWhatWasChecked(t *testing.T) {
	good := hs.token(t, "", claimsAt(noon, ""))
	for _, tc := range []struct{ config, header, value, key string }{
		{", header: x-token", "x-token", "Bearer " + good, "x-token"},
		{"", "authorization", "Bearer " + good, "authorization"},
		{", cookie: session", "cookie", "a=b; session=" + good, "cookie"},
	} {
		p := newTest(t, plugintest.Env(t), &clock{}, withKey(tc.config+", forward: true"))
		c := plugintest.Call("GET", "/", tc.header, tc.value)
		forged := "Bearer forged"
		if tc.key == "cookie" {
			forged = "session=forged"
			tc.value = "session=" + good
		}
		c.Header = rpc.Metadata{{Key: tc.key, Value: forged}, {Key: "x", Value: "y"}}
		if err := p.Authenticate(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(rpc.Metadata{{Key: "x", Value: "y"}, {Key: tc.key, Value: tc.value}}, c.Header); d != "" {
			t.Error(d)
		}
	}
}

// Headers made of claims are the gateway's: no caller's own stays beside them, nor in their place.
func TestClaimsToHeaders(t *testing.T) {
	const config = `, claims_to_headers: {x-user: sub, x-roles: realm.roles, x-name-bin: name, x-id: id, x-flag: flag, x-more: more, x-dotted: "a.b"}`
	p := newTest(t, plugintest.Env(t), &clock{}, withKey(config))
	forged := []string{"x-user", "root", "x_user", "root", "X-User", "root", "x-id", "0", "x-name-bin", "root", "x-roles", "admin", "stays", "yes"}
	for _, tc := range []struct {
		name, claims string
		want         rpc.Metadata // nil: refused
	}{
		{"all", `,"realm":{"roles":["a","b"]},"name":"Jürgen","id":9007199254740993,"flag":false,"more":{"a":[1,"x"]},"a.b":1.5`, rpc.Metadata{
			{Key: "stays", Value: "yes"},
			{Key: "x-dotted", Value: "1.5"},
			{Key: "x-flag", Value: "false"},
			{Key: "x-id", Value: "9007199254740993"},
			{Key: "x-more", Value: `{"a":[1,"x"]}`},
			{Key: "x-name-bin", Value: "Jürgen"},
			{Key: "x-roles", Value: "a,b"},
			{Key: "x-user", Value: "u-1"},
		}},
		{"absent and null", `,"id":null`, rpc.Metadata{{Key: "stays", Value: "yes"}, {Key: "x-user", Value: "u-1"}}},
		{"a list that commas would split", `,"realm":{"roles":["a,admin"]}`, rpc.Metadata{
			{Key: "stays", Value: "yes"}, {Key: "x-roles", Value: `["a,admin"]`}, {Key: "x-user", Value: "u-1"},
		}},
		{"an empty list", `,"realm":{"roles":[]}`, rpc.Metadata{{Key: "stays", Value: "yes"}, {Key: "x-roles", Value: ""}, {Key: "x-user", Value: "u-1"}}},
		{"below, with a dot", `,"a":{"b":"c"}`, rpc.Metadata{{Key: "stays", Value: "yes"}, {Key: "x-dotted", Value: "c"}, {Key: "x-user", Value: "u-1"}}},
		{"a line end", `,"id":"1\r\nx-user: root"`, nil},
		{"not ASCII", `,"id":"Jürgen"`, nil},
		{"a space around", `,"id":" 7"`, nil},
		{"long", `,"id":"` + strings.Repeat("7", maxHeader+1) + `"`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token := hs.token(t, "", claimsAt(noon, tc.claims))
			for range 2 { // verified, and remembered
				c := plugintest.Call("GET", "/", append([]string{"authorization", "Bearer " + token}, forged...)...)
				err := p.Authenticate(t.Context(), c)
				if tc.want == nil {
					plugintest.Refused(t, err, codes.Unauthenticated, 0, plugin.ReasonInvalid)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tc.want, c.Header); d != "" {
					t.Error(d)
				}
			}
		})
	}
	if d := cmp.Diff([]string{"x-dotted", "x-flag", "x-id", "x-more", "x-name-bin", "x-roles", "x-user"}, p.Asserts()); d != "" {
		t.Error(d)
	}
}

func TestClaims(t *testing.T) {
	p := newTest(t, plugintest.Env(t), &clock{}, withKey(""))
	c := plugintest.Call("GET", "/", "authorization", "Bearer "+hs.token(t, "", claimsAt(noon, `,"n":9007199254740993,"f":1.5,"l":[1,null,{"b":true}],"s":"x"`)))
	if err := p.Authenticate(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want := rpc.Claims{
		"iss": "https://issuer.example", "aud": "api", "sub": "u-1", "iat": float64(noon.Unix()), "exp": float64(noon.Unix() + 900),
		"n": 9007199254740992., "f": 1.5, "l": []any{1., nil, map[string]any{"b": true}}, "s": "x",
	}
	if d := cmp.Diff(want, c.Claims); d != "" {
		t.Error(d)
	}
}

// What a good token does not allow is 403, and 401 what is not good.
func TestRequirements(t *testing.T) {
	for _, tc := range []struct{ name, config, claims, reason, header string }{
		{"scope", `, scopes: [read, write]`, `,"scope":"write other read"`, "", ""},
		{"scp list", `, scopes: [read]`, `,"scp":["other","read"]`, "", ""},
		{"scp text", `, scopes: [read]`, `,"scp":"read"`, "", ""},
		{"no scope", `, scopes: [read, write]`, ``, ReasonScope, challengeClaim + `, scope="read write"`},
		{"half of the scopes", `, scopes: [read, write]`, `,"scope":"read"`, ReasonScope, challengeClaim + `, scope="read write"`},
		{"a longer scope", `, scopes: [read]`, `,"scope":"reader"`, ReasonScope, challengeClaim + `, scope="read"`},
		{"scope of another kind", `, scopes: [read]`, `,"scope":{"read":true}`, ReasonScope, challengeClaim + `, scope="read"`},
		{"claim", `, required_claims: [{claim: tenant, values: [a, b]}]`, `,"tenant":"b"`, "", ""},
		{"claim in a list", `, required_claims: [{claim: groups, values: [admins]}]`, `,"groups":["x","admins"]`, "", ""},
		{"claim below", `, required_claims: [{claim: realm.roles, values: [r]}]`, `,"realm":{"roles":["r"]}`, "", ""},
		{"claim of any value", `, required_claims: [{claim: tenant}]`, `,"tenant":{}`, "", ""},
		{"claim true", `, required_claims: [{claim: email_verified, values: ["true"]}]`, `,"email_verified":true`, "", ""},
		{"claim a number", `, required_claims: [{claim: level, values: ["3"]}]`, `,"level":3`, "", ""},
		{"claim null", `, required_claims: [{claim: tenant}]`, `,"tenant":null`, ReasonClaim, challengeClaim},
		{"claim missing", `, required_claims: [{claim: tenant, values: [a]}]`, ``, ReasonClaim, challengeClaim},
		{"claim of another value", `, required_claims: [{claim: tenant, values: [a]}]`, `,"tenant":"A"`, ReasonClaim, challengeClaim},
		{"claim of another kind", `, required_claims: [{claim: tenant, values: [a]}]`, `,"tenant":{"a":1}`, ReasonClaim, challengeClaim},
		{"one of two", `, required_claims: [{claim: a}, {claim: b}]`, `,"a":1`, ReasonClaim, challengeClaim},
		{"lifetime", `, max_lifetime: 900s`, ``, "", ""},
		{"too long a lifetime", `, max_lifetime: 600s`, ``, plugin.ReasonInvalid, challengeInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTest(t, plugintest.Env(t), &clock{}, withKey(tc.config))
			token := hs.token(t, "", claimsAt(noon, tc.claims))
			for range 2 {
				c := plugintest.Call("GET", "/", "authorization", "Bearer "+token)
				err := p.Authenticate(t.Context(), c)
				if tc.reason == "" {
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				code := codes.PermissionDenied
				if tc.reason == plugin.ReasonInvalid {
					code = codes.Unauthenticated
				}
				e := plugintest.Refused(t, err, code, 0, tc.reason)
				if d := cmp.Diff(rpc.Metadata{{Key: "www-authenticate", Value: tc.header}}, e.Header); d != "" || c.Claims != nil {
					t.Error(d)
				}
			}
		})
	}
}

// Time goes on, and clocks are set: what is remembered follows (C5).
func TestClock(t *testing.T) {
	clk := &clock{}
	p := newTest(t, plugintest.Env(t), clk, withKey(""))
	token := hs.token(t, "", fmt.Sprintf(`{"iat":%d,"nbf":%d,"exp":%d}`, noon.Unix(), noon.Unix(), noon.Unix()+900))
	for _, step := range []struct {
		at time.Duration
		ok bool
	}{
		{0, true},
		{15 * time.Minute, true},
		{15*time.Minute + 59*time.Second, true},
		{16 * time.Minute, false},
		{time.Hour, false},
		{14 * time.Minute, true},
		{0, true},
		{-time.Minute, true},
		{-time.Minute - time.Second, false},
		{-time.Hour, false},
		{0, true},
	} {
		clk.ahead.Store(int64(step.at))
		if err := show(t, p, token); (err == nil) != step.ok {
			t.Errorf("at %v: %v", step.at, err)
		}
	}
	clk.ahead.Store(0)
	if err := show(t, p, token); err != nil {
		t.Fatal(err)
	}
	if _, n := p.cache.size(); n != 1 {
		t.Errorf("%d tokens are remembered", n)
	}
	clk.move(time.Hour)
	_ = show(t, p, token)
	if bytes, n := p.cache.size(); n != 0 || bytes != 0 {
		t.Errorf("an expired token stays: %d, %d bytes", n, bytes)
	}
}

// Who calls, by whose key it is or by a claim.
func TestConsumers(t *testing.T) {
	alice, bob, carol := &rpc.Consumer{Name: "alice"}, &rpc.Consumer{Name: "bob"}, &rpc.Consumer{Name: "carol"}
	aliceKey := signer{alg: "HS256", private: []byte("alice's secret of thirty-two bytes")}
	bobKey := testSigners(t).own["ES256"]
	env := plugintest.Env(t)
	env.Credentials = []plugin.Credential{
		{Consumer: alice, Path: "a", Config: &jwtauthv1.Credential{Id: "alice", Algorithm: "HS256", Secret: string(aliceKey.private.([]byte))}},
		{Consumer: bob, Path: "b", Config: &jwtauthv1.Credential{Issuer: "https://bob.example", Algorithm: "ES256", PublicKey: bobKey.pem(t)}},
	}
	env.Consumer = func(name string) *rpc.Consumer {
		if name == "carol" {
			return carol
		}
		return nil
	}
	iss := func(s string) string { return strings.Replace(claimsAt(noon, ""), "https://issuer.example", s, 1) }
	for _, tc := range []struct {
		name, config, token string
		want                *rpc.Consumer
		refused             bool
	}{
		{"by kid", "{}", aliceKey.token(t, "alice", claimsAt(noon, "")), alice, false},
		{"by issuer", "{}", bobKey.token(t, "", iss("https://bob.example")), bob, false},
		{"by issuer, with a kid that nobody has", "{}", bobKey.token(t, "7", iss("https://bob.example")), bob, false},
		{"another's kid", "{}", bobKey.token(t, "alice", iss("https://issuer.example")), nil, true},
		{"another's issuer", "{}", aliceKey.token(t, "", iss("https://bob.example")), nil, true},
		{"no kid", "{}", aliceKey.token(t, "", claimsAt(noon, "")), nil, true},
		{"no issuer", "{}", bobKey.token(t, "", fmt.Sprintf(`{"exp":%d}`, noon.Unix()+9)), nil, true},
		{"nobody's key", withKey(""), hs.token(t, "", claimsAt(noon, "")), nil, false},
		{"by a claim", withKey(", consumer_claim: client"), hs.token(t, "", claimsAt(noon, `,"client":"carol"`)), carol, false},
		{"by a claim below", withKey(", consumer_claim: a.client"), hs.token(t, "", claimsAt(noon, `,"a":{"client":"carol"}`)), carol, false},
		{"a claim that names nobody", withKey(", consumer_claim: client"), hs.token(t, "", claimsAt(noon, `,"client":"mallory"`)), nil, true},
		{"a claim that is a list", withKey(", consumer_claim: client"), hs.token(t, "", claimsAt(noon, `,"client":["carol"]`)), nil, true},
		{"no claim", withKey(", consumer_claim: client"), hs.token(t, "", claimsAt(noon, "")), nil, true},
		{"unknown are taken", withKey(", consumer_claim: client, allow_unknown_consumers: true"), hs.token(t, "", claimsAt(noon, `,"client":"mallory"`)), nil, false},
		{"a consumer's key is whose it is, whatever it claims", withKey(", consumer_claim: client"), aliceKey.token(t, "alice", claimsAt(noon, `,"client":"carol"`)), alice, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTest(t, env, &clock{}, tc.config)
			for range 2 {
				c := plugintest.Call("GET", "/", "authorization", "Bearer "+tc.token)
				err := p.Authenticate(t.Context(), c)
				if tc.refused {
					plugintest.Refused(t, err, codes.Unauthenticated, 0, plugin.ReasonInvalid)
				} else if err != nil {
					t.Fatal(err)
				}
				if c.Consumer != tc.want {
					t.Errorf("found %v", c.Consumer)
				}
			}
		})
	}
}

func TestFaults(t *testing.T) {
	all := testSigners(t)
	key := func(keys string) string { return "{keys: [{" + keys + "}]}" }
	pub := fmt.Sprintf("%q", all.own["RS256"].pem(t))
	private := `"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"`
	set := func(more string) string { return `{key_sets: [{url: "https://issuer.example/keys"` + more + `}]}` }
	env := plugintest.Env(t)
	env.Fetch = &script{}
	plugintest.Faults(t, Kind, env, []plugintest.Fault{
		{Name: "no keys", Config: `{}`, Path: "", Want: "no key checks tokens", Fix: "key_sets"},
		{Name: "no algorithm", Config: key(`secret: x`), Path: "keys[0].algorithm", Want: "here is none", Fix: "HS256"},
		{Name: "none", Config: key(`algorithm: none, secret: x`), Path: "keys[0].algorithm", Want: `unknown algorithm "none"`, Fix: "EdDSA"},
		{Name: "case", Config: key(`algorithm: hs256, secret: x`), Path: "keys[0].algorithm", Want: `unknown algorithm "hs256"`, Fix: "HS256"},
		{Name: "no key", Config: key(`algorithm: HS256`), Path: "keys[0]", Want: "found 0", Fix: "secret"},
		{Name: "two keys", Config: key(`algorithm: HS256, secret: a, secret_base64: b`), Path: "keys[0]", Want: "found 2", Fix: "secret"},
		{Name: "short secret", Config: key(`algorithm: HS256, secret: short`), Path: "keys[0].secret", Want: "at least 32 bytes, found 5", Fix: "openssl"},
		{Name: "short for its hash", Config: key(`algorithm: HS512, secret: "` + secret + `"`), Path: "keys[0].secret", Want: "at least 64 bytes", Fix: "openssl"},
		{Name: "not base64", Config: key(`algorithm: HS256, secret_base64: "***"`), Path: "keys[0].secret_base64", Want: "base64", Fix: "openssl"},
		{Name: "a public key for a secret", Config: key(`algorithm: HS256, secret: ` + pub), Path: "keys[0].secret", Want: "whoever has the public key could sign", Fix: "public_key"},
		{Name: "the same in base64", Config: key(`algorithm: HS256, secret_base64: "` + base64.StdEncoding.EncodeToString([]byte(all.own["RS256"].pem(t))) + `"`), Path: "keys[0].secret_base64", Want: "no secret", Fix: "public_key"},
		{Name: "a public key for HS", Config: key(`algorithm: HS256, public_key: ` + pub), Path: "keys[0].public_key", Want: "has a secret", Fix: "RS256"},
		{Name: "a secret for RS", Config: key(`algorithm: RS256, secret: "` + secret + `"`), Path: "keys[0]", Want: "has a public key", Fix: "public_key"},
		{Name: "no PEM", Config: key(`algorithm: RS256, public_key: MIIB`), Path: "keys[0].public_key", Want: "PEM", Fix: "file"},
		{Name: "a private key", Config: key(`algorithm: RS256, public_key: ` + private), Path: "keys[0].public_key", Want: "a private key", Fix: "-pubout"},
		{Name: "several", Config: key(fmt.Sprintf(`algorithm: RS256, public_key: %q`, strings.Repeat(all.own["RS256"].pem(t), 2))), Path: "keys[0].public_key", Want: "several", Fix: "each"},
		{Name: "another block", Config: key(`algorithm: RS256, public_key: "-----BEGIN X-----\nAAAA\n-----END X-----\n"`), Path: "keys[0].public_key", Want: `type "X"`, Fix: "PUBLIC KEY"},
		{Name: "broken", Config: key(`algorithm: RS256, public_key: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"`), Path: "keys[0].public_key", Want: "does not parse", Fix: "openssl"},
		{Name: "RSA for ES", Config: key(`algorithm: ES256, public_key: ` + pub), Path: "keys[0].public_key", Want: "RSA key does not sign", Fix: "ES256"},
		{Name: "another curve", Config: key(fmt.Sprintf(`algorithm: ES384, public_key: %q`, all.own["ES256"].pem(t))), Path: "keys[0].public_key", Want: "P-256", Fix: "ES384"},
		{Name: "Ed25519 for RS", Config: key(fmt.Sprintf(`algorithm: RS256, public_key: %q`, all.own["EdDSA"].pem(t))), Path: "keys[0].public_key", Want: "Ed25519", Fix: "RS256"},
		{Name: "ids", Config: fmt.Sprintf("{keys: [%s, %s]}", all.own["ES256"].config(t, ", id: a"), all.other["ES256"].config(t, ", id: a, issuer: b")), Path: "keys[1].id", Want: `the id "a"`, Fix: "own"},
		{Name: "many without ids", Config: "{keys: [" + strings.Repeat(all.own["ES256"].config(t, "")+", ", 16) + all.own["ES256"].config(t, "") + "]}", Path: "keys[16]", Want: "16 keys", Fix: "ids"},
		{Name: "leeway", Config: withKey(", leeway: 601s"), Path: "leeway", Want: "10m", Fix: "60s"},
		{Name: "lifetime", Config: withKey(", max_lifetime: 0s"), Path: "max_lifetime", Want: "more than 0s", Fix: "3600s"},
		{Name: "lifetime without exp", Config: withKey(", max_lifetime: 9s, allow_missing_exp: true"), Path: "allow_missing_exp", Want: "beside", Fix: "remove"},
		{Name: "empty audience", Config: withKey(`, audiences: [a, ""]`), Path: "audiences[1]", Want: "empty", Fix: "remove"},
		{Name: "scopes in one", Config: withKey(`, scopes: ["read write"]`), Path: "scopes[0]", Want: "not one scope", Fix: "own"},
		{Name: "claim without a name", Config: withKey(`, required_claims: [{values: [a]}]`), Path: "required_claims[0].claim", Want: "without a name", Fix: "name"},
		{Name: "unknown consumers of no claim", Config: withKey(`, allow_unknown_consumers: true`), Path: "allow_unknown_consumers", Want: "no claim", Fix: "consumer_claim"},
		{Name: "header of the gateway", Config: withKey(`, claims_to_headers: {X-Consumer-Name: sub}`), Path: `claims_to_headers["X-Consumer-Name"]`, Want: "alone", Fix: "another"},
		{Name: "header of the gateway, folded", Config: withKey(`, claims_to_headers: {x_consumer_groups: sub}`), Path: `claims_to_headers["x_consumer_groups"]`, Want: "alone", Fix: "another"},
		{Name: "header of the protocol", Config: withKey(`, claims_to_headers: {grpc-timeout: sub}`), Path: `claims_to_headers["grpc-timeout"]`, Want: "alone", Fix: "another"},
		{Name: "header of the token", Config: withKey(`, claims_to_headers: {Authorization: sub}`), Path: `claims_to_headers["Authorization"]`, Want: "token", Fix: "forward"},
		{Name: "header that is none", Config: withKey(`, claims_to_headers: {"x user": sub}`), Path: `claims_to_headers["x user"]`, Want: "not the name", Fix: "letters"},
		{Name: "headers that are one", Config: withKey(`, claims_to_headers: {x-user: sub, X_User: name}`), Path: `claims_to_headers["x-user"]`, Want: "one header", Fix: "remove"},
		{Name: "header of no claim", Config: withKey(`, claims_to_headers: {x-user: ""}`), Path: `claims_to_headers["x-user"]`, Want: "no claim", Fix: "sub"},
		{Name: "carrier", Config: withKey(`, header: host`), Path: "header", Want: "alone", Fix: "another"},
		{Name: "cookie", Config: withKey(`, cookie: "a=b"`), Path: "cookie", Want: "not the name", Fix: "alone"},
		{Name: "cache", Config: withKey(`, cache_bytes: "99999999999"`), Path: "cache_bytes", Want: "found 99999999999", Fix: "16777216"},
		{Name: "no place", Config: `{key_sets: [{}]}`, Path: "key_sets[0]", Want: "without a place", Fix: "url"},
		{Name: "not a URL", Config: `{key_sets: [{url: "issuer.example"}]}`, Path: "key_sets[0].url", Want: "URL", Fix: "https://"},
		{Name: "a file", Config: `{key_sets: [{url: "file:///etc/keys"}]}`, Path: "key_sets[0].url", Want: "URL", Fix: "https://"},
		{Name: "with a password", Config: `{key_sets: [{openid: "https://a:b@issuer.example"}]}`, Path: "key_sets[0].openid", Want: "URL", Fix: "https://"},
		{Name: "issuer beside openid", Config: `{key_sets: [{openid: "https://issuer.example", issuer: x}]}`, Path: "key_sets[0].issuer", Want: "openid", Fix: "remove"},
		{Name: "HS of a server", Config: set(", algorithms: [HS256]"), Path: "key_sets[0].algorithms[0]", Want: "HS256", Fix: "RS256"},
		{Name: "refresh", Config: set(", refresh: 29s"), Path: "key_sets[0].refresh", Want: "30s", Fix: "300s"},
		{Name: "keep", Config: set(", refresh: 60s, keep: 59s"), Path: "key_sets[0].keep", Want: "1m0s", Fix: "24h"},
	})
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing fetches", Config: set(""), Path: "key_sets[0]", Want: "fetches nothing", Fix: "keys"},
	})
}

func TestCredentialFaults(t *testing.T) {
	es := testSigners(t).own["ES256"].pem(t)
	for _, tc := range []struct {
		name string
		conf []*jwtauthv1.Credential
		want string
	}{
		{"nothing to know it by", []*jwtauthv1.Credential{{Algorithm: "HS256", Secret: secret}}, "0: a key of a consumer without `id` and `issuer`"},
		{"one id", []*jwtauthv1.Credential{{Id: "a", Algorithm: "HS256", Secret: secret}, {Id: "a", Algorithm: "ES256", PublicKey: es}}, `1.id: another key has the id "a"`},
		{"one key", []*jwtauthv1.Credential{{Issuer: "a", Algorithm: "ES256", PublicKey: es}, {Issuer: "a", Algorithm: "ES256", PublicKey: es}}, "1: another consumer has the same key"},
		{"short", []*jwtauthv1.Credential{{Id: "a", Algorithm: "HS256", Secret: "x"}}, "0.secret: HS256 wants a secret of at least 32 bytes, found 1"},
	} {
		env := plugintest.Env(t)
		for i, c := range tc.conf {
			env.Credentials = append(env.Credentials, plugin.Credential{Consumer: &rpc.Consumer{Name: strconv.Itoa(i)}, Config: c, Path: strconv.Itoa(i)})
		}
		_, err := Kind.New(&jwtauthv1.JWTAuth{}, env)
		f, ok := err.(*plugin.Fault) //nolint:errorlint // it is returned as it is
		if !ok || f.Error() != tc.want || f.Fix == "" {
			t.Errorf("%s: found %v", tc.name, err)
		}
	}
}

// Bytes are bounded, each token is found by all of its bytes, and the texts of requests are not held.
func TestCache(t *testing.T) {
	p := newTest(t, plugintest.Env(t), &clock{}, withKey(", cache_bytes: 160000"))
	last := ""
	for i := range 2000 {
		last = hs.token(t, "", claimsAt(noon, fmt.Sprintf(`,"n":%d`, i)))
		if err := show(t, p, last); err != nil {
			t.Fatal(err)
		}
	}
	bytes, n := p.cache.size()
	if bytes > 160000 || n < 40 || n > 300 {
		t.Errorf("%d bytes of %d tokens", bytes, n)
	}
	v := p.cache.get(last)
	if v == nil || v.claims["n"] != 1999. {
		t.Fatalf("found %+v", v)
	}
	for i := range len(last) {
		b := []byte(last)
		b[i] ^= 1
		if p.cache.get(string(b)) != nil {
			t.Fatalf("found with byte %d changed", i)
		}
	}
	if p.cache.get("x") != nil || p.cache.get("") != nil {
		t.Error("found what is no token")
	}
	huge := hs.token(t, "", claimsAt(noon, `,"a":[`+strings.TrimSuffix(strings.Repeat("1,", 2000), ",")+`]`))
	if err := show(t, p, huge); err != nil || p.cache.get(huge) != nil {
		t.Errorf("a token larger than a shard: %v", err)
	}
}

// FuzzToken: what is taken, golang-jwt takes too.
func FuzzToken(f *testing.F) {
	for _, c := range []string{claimsAt(noon, ""), `{"exp":1e300}`, `{}`, `[]`, `{"exp":1795348800,"nbf":0.5,"aud":["a"]}`, "{\"exp\":1795348800}\n"} {
		f.Add(`{"alg":"HS256"}`, c, true)
		f.Add(`{"typ":"JWT","alg":"HS256","kid":"7"}`, c, false)
	}
	f.Add(`{"alg":"HS256","alg":"none"}`, `{"exp":1e999}`, true)
	p := newTest(f, plugintest.Env(f), &clock{}, withKey(""))
	// It cuts fractions of seconds off.
	oracle := jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(),
		jwt.WithLeeway(defaultLeeway+time.Second), jwt.WithTimeFunc(func() time.Time { return noon }), jwt.WithIssuedAt())
	f.Fuzz(func(t *testing.T, header, claims string, signed bool) {
		token := header + "." + claims // as it is, so that the form of a token is tried as well
		if signed {
			token = hs.raw(t, header, claims)
		}
		if show(t, p, token) != nil {
			return
		}
		if _, err := oracle.Parse(token, func(*jwt.Token) (any, error) { return []byte(secret), nil }); err != nil {
			t.Errorf("taken, and golang-jwt says %v: %s %s", err, header, claims)
		}
	})
}

func hitCall(token string) *rpc.Call {
	c := plugintest.Call("GET", "/", "user-agent", "x", "accept", "*/*", "traceparent", "00-1-2-3", "authorization", "Bearer "+token)
	c.Header = append(make(rpc.Metadata, 0, 16), c.Header...)
	return c
}

// A token that was seen before costs no allocation; one that was not has few.
func TestAllocs(t *testing.T) {
	p := newTest(t, plugintest.Env(t), &clock{}, withKey(", claims_to_headers: {x-user: sub}"))
	c := hitCall(hs.token(t, "", claimsAt(noon, "")))
	plugintest.Allocs(t, 0, p.Wrap(&plugintest.Next{}), c)
	long := hitCall(strings.Repeat("a.", maxToken)) // C4
	plugintest.Allocs(t, 6, p.Wrap(&plugintest.Next{}), long)
	dots := hitCall(strings.Repeat(".", maxToken))
	plugintest.Allocs(t, 6, p.Wrap(&plugintest.Next{}), dots)
}

func BenchmarkRemembered(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			s := testSigners(b).own[alg]
			p := newTest(b, plugintest.Env(b), &clock{}, "{claims_to_headers: {x-user: sub}, keys: ["+s.config(b, "")+"]}")
			h, c := p.Wrap(&plugintest.Next{}), hitCall(s.token(b, "", claimsAt(noon, "")))
			b.ReportAllocs()
			for b.Loop() {
				_ = h.Handle(b.Context(), c)
			}
		})
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, alg := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			s := testSigners(b).own[alg]
			p := newTest(b, plugintest.Env(b), &clock{}, "{keys: ["+s.config(b, "")+"]}")
			token := s.token(b, "", claimsAt(noon, ""))
			h, c := p.Wrap(&plugintest.Next{}), hitCall(token)
			b.ReportAllocs()
			for b.Loop() {
				p.cache.remove(token)
				_ = h.Handle(b.Context(), c)
			}
		})
	}
}
