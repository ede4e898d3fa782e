package jwtauth

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// golden is a token and what becomes of it.
type golden struct {
	name string
	make func(t *testing.T, s, other signer) string
	want string // "": accepted; else a part of why not, as logs have it
}

// header makes a case of a header: ALG stands for the signer's algorithm.
func header(name, text, want string) golden {
	return golden{name, func(t *testing.T, s, _ signer) string {
		return s.raw(t, strings.ReplaceAll(text, "ALG", s.alg), claimsAt(noon, ""))
	}, want}
}

// claimed makes a case of claims.
func claimed(name, claims, want string) golden {
	return golden{name, func(t *testing.T, s, _ signer) string { return s.token(t, "", claims) }, want}
}

// changed makes a case of a good token that is changed afterwards.
func changed(name, want string, change func(token string) string) golden {
	return golden{name, func(t *testing.T, s, _ signer) string { return change(s.token(t, "", claimsAt(noon, ""))) }, want}
}

// unix is the time so many seconds after noon, as claims have it.
func unix(after int64) string { return strconv.FormatInt(noon.Unix()+after, 10) }

// cases are the tokens of attackers, and some that have to be taken.
func cases() []golden {
	at := func(name, value string) string {
		pairs := []string{"iss", `"https://issuer.example"`, "aud", `"api"`}
		if name != "exp" {
			pairs = append(pairs, "exp", unix(900))
		}
		if value != "" {
			pairs = append(pairs, name, value)
		}
		return object(pairs...)
	}
	party := func(iss, aud string) string {
		pairs := []string{"exp", unix(900)}
		if iss != "" {
			pairs = append(pairs, "iss", iss)
		}
		if aud != "" {
			pairs = append(pairs, "aud", aud)
		}
		return object(pairs...)
	}
	const good, parts = "", "wanted a token of three parts in base64url"
	out := []golden{
		claimed("valid", claimsAt(noon, ""), good),
		header("valid, a longer header", `{"typ":"at+jwt","kid":"","x5t":"abc","alg":"ALG","custom":{"a":[1]}}`, good),
		// An algorithm that is none, or another than the key's.
		header("alg missing", `{"typ":"JWT"}`, "algorithm"),
		header("alg null", `{"alg":null}`, "algorithm"),
		header("alg a list", `{"alg":["ALG"]}`, "algorithm"),
		header("alg with a space", `{"alg":"ALG "}`, "algorithm"),
		header("alg unknown", `{"alg":"HS1"}`, "algorithm"),
		header("alg twice", `{"alg":"ALG","alg":"ALG"}`, `the name "alg" stands twice`),
		header("alg twice, one escaped", `{"alg":"none","\u0061lg":"ALG"}`, `the name "alg" stands twice`),
		header("Alg beside alg is another name", `{"Alg":"none","alg":"ALG"}`, good),
		{"alg in lower case", func(t *testing.T, s, _ signer) string {
			return s.raw(t, fmt.Sprintf(`{"alg":%q}`, strings.ToLower(s.alg)), claimsAt(noon, ""))
		}, "algorithm"},
		// Keys and rules that come with the token.
		header("crit empty", `{"alg":"ALG","crit":[]}`, `"crit"`),
		header("crit", `{"alg":"ALG","crit":["exp"],"exp":1}`, `"crit"`),
		header("b64 false", `{"alg":"ALG","b64":false,"crit":["b64"]}`, `"crit"`),
		header("b64 without crit", `{"alg":"ALG","b64":false}`, `"b64"`),
		header("b64 true", `{"alg":"ALG","b64":true}`, `"b64"`),
		header("jku", `{"alg":"ALG","jku":"https://evil.example/keys"}`, `"jku"`),
		header("x5u", `{"alg":"ALG","x5u":"https://evil.example/cert"}`, `"x5u"`),
		header("x5c", `{"alg":"ALG","x5c":["MIIB"]}`, `"x5c"`),
		header("zip", `{"alg":"ALG","zip":"DEF"}`, `"zip"`),
		header("p2c", `{"alg":"ALG","p2c":2147483647}`, `"p2c"`),
		header("enc", `{"alg":"ALG","enc":"A256GCM"}`, `"enc"`),
		{"embedded key", func(t *testing.T, s, other signer) string {
			return other.raw(t, fmt.Sprintf(`{"alg":%q,"jwk":%s}`, s.alg, other.jwk("", "")), claimsAt(noon, ""))
		}, `"jwk"`},
		header("cty JWT", `{"alg":"ALG","cty":"application/JWT"}`, `"cty"`),
		header("typ a number", `{"alg":"ALG","typ":1}`, `"typ"`),
		// kid.
		header("kid a number", `{"alg":"ALG","kid":1}`, "wanted a kid"),
		header("kid a list", `{"alg":"ALG","kid":["k"]}`, "wanted a kid"),
		header("kid null", `{"alg":"ALG","kid":null}`, "wanted a kid"),
		header("kid long", `{"alg":"ALG","kid":"`+strings.Repeat("k", maxID+1)+`"}`, "wanted a kid"),
		header("kid with a path finds nothing else", `{"alg":"ALG","kid":"../../../dev/null"}`, good),
		header("kid with SQL finds nothing else", `{"alg":"ALG","kid":"x' UNION SELECT 'secret'--"}`, good),
		header("kid of another key", `{"alg":"ALG","kid":"other"}`, good), // the free key checks it; that other one does not
		// Form.
		header("header a list", `["ALG"]`, "wanted a JSON object"),
		header("header with a tail", `{"alg":"ALG"}x`, "something stands behind"),
		header("header not UTF-8", "{\"alg\":\"ALG\",\"x\":\"\xff\"}", "not UTF-8"),
		header("header deep", `{"alg":"ALG","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`, "nested deeper"),
		header("header empty", ``, parts),
		changed("two parts", parts, func(s string) string { return s[:strings.LastIndexByte(s, '.')] }),
		changed("empty signature", parts, func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }),
		changed("four parts", parts, func(s string) string { return s + ".x" }),
		changed("five parts, as JWE has", parts, func(s string) string { return "e30.." + s }),
		changed("a dot at the end", parts, func(s string) string { return s + "." }),
		changed("many dots", parts, func(s string) string { return strings.Repeat(".", 4000) + s }),
		changed("too long", "longer than 8192", func(s string) string { return s + strings.Repeat("A", maxToken) }),
		changed("padding", parts, func(s string) string { return s + "=" }),
		changed("a line end inside", parts, func(s string) string { return s[:9] + "\n" + s[9:] }),
		changed("a space inside", parts, func(s string) string { return s[:9] + " " + s[9:] }),
		changed("the other alphabet", parts, func(s string) string { return s[:len(s)-8] + "+/+/+/+/" }),
		changed("percent-encoded", parts, func(s string) string { return strings.ReplaceAll(s, ".", "%2e") }),
		{"JSON form", func(*testing.T, signer, signer) string { return `{"payload":"e30","signatures":[]}` }, parts},
		changed("junk", parts, func(string) string { return "null" }),
		// Signatures.
		{"another key", func(t *testing.T, _, other signer) string { return other.token(t, "", claimsAt(noon, "")) }, "signature"},
		{"signature of another token", func(t *testing.T, s, _ signer) string {
			a, b := s.token(t, "", claimsAt(noon, `,"admin":true`)), s.token(t, "", claimsAt(noon, ""))
			return a[:strings.LastIndexByte(a, '.')] + b[strings.LastIndexByte(b, '.'):]
		}, "signature"},
		{"claims changed", func(t *testing.T, s, _ signer) string {
			p := strings.Split(s.token(t, "", claimsAt(noon, "")), ".")
			return p[0] + "." + b64(claimsAt(noon, `,"admin":true`)) + "." + p[2]
		}, "signature"},
		{"signature cut", func(t *testing.T, s, _ signer) string {
			return resigned(t, s, func(b []byte) []byte { return b[:len(b)-1] })
		}, "signature"},
		{"signature longer", func(t *testing.T, s, _ signer) string {
			return resigned(t, s, func(b []byte) []byte { return append(b, 0) })
		}, "signature"},
		{"signature of zeros", func(t *testing.T, s, _ signer) string {
			return resigned(t, s, func(b []byte) []byte { return make([]byte, len(b)) })
		}, "signature"},
		{"signature of ones", func(t *testing.T, s, _ signer) string {
			return resigned(t, s, func(b []byte) []byte {
				for i := range b {
					b[i] = 0xff
				}
				return b
			})
		}, "signature"},
		{"signature in DER", func(t *testing.T, s, _ signer) string {
			return resigned(t, s, func(b []byte) []byte {
				der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(b[:len(b)/2]), new(big.Int).SetBytes(b[len(b)/2:])})
				return der
			})
		}, "signature"},
		{"the last bits of the signature, which mean nothing", func(t *testing.T, s, _ signer) string {
			token := s.token(t, "", claimsAt(noon, ""))
			raw, _ := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
			if len(raw)%3 == 0 {
				return token + "A" // one character too many, for want of free bits
			}
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			return token[:len(token)-1] + string(alphabet[strings.IndexByte(alphabet, token[len(token)-1])|1])
		}, parts},
		// Claims.
		claimed("claims a list", `[]`, "wanted a JSON object"),
		claimed("claims null", `null`, "wanted a JSON object"),
		claimed("claims with a tail", claimsAt(noon, "")+"{}", "something stands behind"),
		claimed("claims not UTF-8", claimsAt(noon, ",\"x\":\"\xc3\x28\""), "not UTF-8"),
		claimed("sub twice", claimsAt(noon, `,"sub":"admin"`), `the name "sub" stands twice`),
		claimed("exp twice, one escaped", claimsAt(noon, `,"e\u0078p":9999999999`), `the name "exp" stands twice`),
		claimed("twice below", claimsAt(noon, `,"a":{"b":1,"b":2}`), `the name "b" stands twice`),
		claimed("exp missing", at("exp", ""), `"exp" is missing`),
		claimed("exp null", at("exp", "null"), "wanted a number"),
		claimed("exp a string", at("exp", `"9999999999"`), "wanted a number"),
		claimed("exp true", at("exp", "true"), "wanted a number"),
		claimed("exp zero", at("exp", "0"), "after 1970"),
		claimed("exp negative", at("exp", "-1"), "after 1970"),
		claimed("exp too large a number", at("exp", "1e999"), "too large"),
		claimed("exp at the end of time", at("exp", "253402300799"), good),
		claimed("exp in milliseconds", at("exp", "1795348800000"), "before the year 10000"),
		claimed("exp beyond all time", at("exp", "1e300"), "before the year 10000"),
		claimed("exp with a fraction", at("exp", "1795348800.5"), good),
		claimed("expired", at("exp", unix(-61)), "not valid yet, or no longer"),
		claimed("expired at the leeway's end", at("exp", unix(-60)), "not valid yet, or no longer"),
		claimed("expired within the leeway", at("exp", unix(-59)), good),
		claimed("nbf ahead", at("nbf", unix(61)), "not valid yet, or no longer"),
		claimed("nbf within the leeway", at("nbf", unix(60)), good),
		claimed("nbf a string", at("nbf", `"1"`), "wanted a number"),
		claimed("iat ahead", at("iat", unix(61)), "not valid yet, or no longer"),
		claimed("iat null", at("iat", `null`), "wanted a number"),
		claimed("iat long ago", at("iat", `1`), good),
		claimed("sub a number", at("sub", `7`), "wanted a string"),
		claimed("iss another", party(`"https://evil.example"`, `"api"`), "not taken"),
		claimed("iss with a tail", party(`"https://issuer.example/"`, `"api"`), "not taken"),
		claimed("iss missing", party("", `"api"`), "not taken"),
		claimed("iss a list", party(`["https://issuer.example"]`, `"api"`), `claim "iss"`),
		claimed("aud another", party(`"https://issuer.example"`, `"apis"`), "another audience"),
		claimed("aud missing", party(`"https://issuer.example"`, ""), "another audience"),
		claimed("aud a list", party(`"https://issuer.example"`, `["web","api"]`), good),
		claimed("aud an empty list", party(`"https://issuer.example"`, `[]`), "another audience"),
		claimed("aud a list with a number", party(`"https://issuer.example"`, `["api",1]`), "wanted strings"),
		claimed("aud an object", party(`"https://issuer.example"`, `{"api":true}`), `claim "aud"`),
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		h := fmt.Sprintf(`{"alg":%q}`, none)
		out = append(out,
			golden{fmt.Sprintf("alg %q", none), func(*testing.T, signer, signer) string { return b64(h) + "." + b64(claimsAt(noon, "")) + "." }, parts},
			golden{fmt.Sprintf("alg %q with a signature", none), func(t *testing.T, s, _ signer) string { return s.raw(t, h, claimsAt(noon, "")) }, "algorithm"},
		)
	}
	return out
}

// resigned is a good token with its signature changed.
func resigned(t *testing.T, s signer, change func([]byte) []byte) string {
	t.Helper()
	token := s.token(t, "", claimsAt(noon, ""))
	at := strings.LastIndexByte(token, '.') + 1
	raw, err := base64.RawURLEncoding.DecodeString(token[at:])
	if err != nil {
		t.Fatal(err)
	}
	return token[:at] + base64.RawURLEncoding.EncodeToString(change(raw))
}

// forConfig is a plugin with one key for tokens of any kid, and another that only has its id.
func forConfig(t testing.TB, s signer, clk *clock) *jwtAuth {
	t.Helper()
	other := testSigners(t).other["ES256"]
	return newTest(t, plugintest.Env(t), clk, "{issuers: [\"https://issuer.example\"], audiences: [api], keys: ["+s.config(t, "")+", "+other.config(t, ", id: other")+"]}")
}

// proof tells that the long form of tests is wanted.
func proof() bool { return os.Getenv("CAUSEWAY_PROOF") != "" }

// The table of tokens, for one algorithm of each type that keys have, or for all; and every algorithm in place of each.
func TestProofGoldenTokens(t *testing.T) {
	all := testSigners(t)
	table := cases()
	if len(table) < 100 {
		t.Errorf("the table has %d tokens", len(table))
	}
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			p := forConfig(t, all.own[alg], &clock{})
			for _, tc := range table {
				if !proof() && !slices.Contains([]string{"HS256", "RS256", "PS256", "ES256", "EdDSA"}, alg) {
					break
				}
				judge(t, p, tc.name, tc.make(t, all.own[alg], all.other[alg]), tc.want)
			}
			// The algorithm of another family, or of the same one: signed properly by every key that there is.
			for _, said := range algorithms {
				if said == alg {
					continue
				}
				h, claims := fmt.Sprintf(`{"alg":%q}`, said), claimsAt(noon, "")
				judge(t, p, "signed with "+said+" by its own key", all.own[said].raw(t, h, claims), "no key has")
				text := b64(h) + "." + b64(claims)
				judge(t, p, "says "+said, text+"."+all.own[alg].signature(t, alg, text), "no key has")
			}
			// What everybody has, the public key, as the secret of HS.
			if alg[:2] != "HS" {
				for form, secret := range map[string]string{
					"PEM": all.own[alg].pem(t), "PEM without its end": strings.TrimSpace(all.own[alg].pem(t)), "JWK": all.own[alg].jwk("", ""), "": "",
				} {
					for _, hs := range []string{"HS256", "HS384", "HS512"} {
						s := signer{alg: hs, private: []byte(secret)}
						judge(t, p, hs+" with the public key as "+form, s.token(t, "", claimsAt(noon, "")), "no key has")
					}
				}
			}
		})
	}
}

// The same by keys that a server publishes: what is refused is refused.
func TestGoldenTokensOfKeySets(t *testing.T) {
	all := testSigners(t)
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			own, other := all.own[alg], all.other[alg]
			s := &script{}
			s.serve(own.jwk("k", `,"alg":"`+alg+`"`))
			p := startSet(t, s, &clock{}, `{issuers: ["https://issuer.example"], audiences: [api], key_sets: [{url: "https://issuer.example/keys"}]}`)
			if err := show(t, p, own.token(t, "k", claimsAt(noon, ""))); err != nil {
				t.Fatal(err)
			}
			tokens := map[string]string{}
			for _, tc := range cases() {
				if tc.want != "" {
					tokens[tc.name] = tc.make(t, own, other)
				}
			}
			for form, secret := range map[string]string{"PEM": own.pem(t), "JWK": own.jwk("", ""), "nothing": ""} {
				hs := signer{alg: "HS256", private: []byte(secret)}
				tokens["HS256 with the public key as "+form] = hs.token(t, "k", claimsAt(noon, ""))
			}
			for name, token := range tokens {
				if err := show(t, p, token); reasonOf(err) != plugin.ReasonInvalid {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n := s.calls.Load(); n > 2 {
				t.Errorf("%d tokens had the set fetched %d times", len(tokens), n)
			}
		})
	}
}

// judge has the plugin look at a token; at one that is accepted twice: what is remembered must not change it.
func judge(t *testing.T, p *jwtAuth, name, token, want string) {
	t.Helper()
	for range 2 {
		next := &plugintest.Next{}
		c := plugintest.Call("GET", "/", "authorization", "Bearer "+token)
		err := p.Wrap(next).Handle(t.Context(), c)
		if want == "" {
			if err != nil || next.Calls != 1 || c.Claims == nil || c.Header.Has("authorization") {
				t.Errorf("%s: refused: %v", name, err)
			}
			continue
		}
		e, ok := errors.AsType[*rpc.Error](err)
		if !ok || next.Calls != 0 || e.Code != codes.Unauthenticated || e.Reason != plugin.ReasonInvalid || c.Claims != nil || !c.Header.Has("authorization") {
			t.Errorf("%s: came through, or was refused otherwise: %v", name, err)
			return
		}
		if !strings.Contains(e.Error(), want) || strings.Contains(e.Message, want) {
			t.Errorf("%s: refused for %v, want %q for logs alone", name, e, want)
		}
		if e.Header.Get("www-authenticate") != challengeInvalid {
			t.Errorf("%s: header %v", name, e.Header)
		}
		return
	}
}

// No single bit of a token can be another without the token being refused.
func TestProofMutation(t *testing.T) {
	step := 37
	if proof() {
		step = 1
	}
	tried := 0
	for _, alg := range algorithms {
		s := testSigners(t).own[alg]
		p := forConfig(t, s, &clock{})
		token := s.token(t, "", claimsAt(noon, ""))
		for i := 0; i < 8*len(token); i += step {
			b := []byte(token)
			b[i/8] ^= 1 << (i % 8)
			c := &rpc.Call{Header: rpc.Metadata{{Key: "authorization", Value: "Bearer " + string(b)}}}
			if err := p.Authenticate(t.Context(), c); err == nil {
				t.Errorf("%s: accepted with bit %d of byte %d changed: %s", alg, i%8, i/8, b)
			}
			tried++
		}
		if err := p.Authenticate(t.Context(), &rpc.Call{Header: rpc.Metadata{{Key: "authorization", Value: "Bearer " + token}}}); err != nil {
			t.Errorf("%s: unchanged: %v", alg, err)
		}
	}
	t.Logf("%d mutations of tokens with %d algorithms, none accepted", tried, len(algorithms))
}

// The examples of RFC 7515 appendix A.1 and A.3, of 2011.
func TestRFC7515(t *testing.T) {
	const claims = ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
	for _, tc := range []struct{ alg, token, key string }{
		{
			"HS256", "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9" + claims + "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
			"{keys: [{algorithm: HS256, secret_base64: AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow}]}",
		},
		{
			"ES256", "eyJhbGciOiJFUzI1NiJ9" + claims + "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
			`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}]}`,
		},
	} {
		t.Run(tc.alg, func(t *testing.T) {
			clk := &clock{}
			clk.move(time.Unix(1300819379, 0).Sub(noon))
			var p *jwtAuth
			if tc.alg == "HS256" {
				p = newTest(t, plugintest.Env(t), clk, tc.key)
			} else {
				s := &script{}
				s.say(200, tc.key)
				p = startSet(t, s, clk, setConfig)
			}
			if err := show(t, p, tc.token); err != nil {
				t.Error(err)
			}
			clk.move(62 * time.Second)
			if err := show(t, p, tc.token); reasonOf(err) != plugin.ReasonInvalid {
				t.Errorf("a second after its end and the leeway: %v", err)
			}
		})
	}
}
