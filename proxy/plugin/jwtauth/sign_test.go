package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
)

// signer is a key with its private half.
type signer struct {
	alg     string
	private any // what golang-jwt signs with
	public  any
}

// signers has two keys for each algorithm; RSA keys are made once, as that takes long.
type signers struct {
	own, other map[string]signer
}

var madeSigners = sync.OnceValues(func() (*signers, error) {
	s := &signers{own: map[string]signer{}, other: map[string]signer{}}
	for _, m := range []map[string]signer{s.own, s.other} {
		rsaKey, err := rsa.GenerateKey(rand.Reader, minRSA)
		if err != nil {
			return nil, err
		}
		secret := make([]byte, 64)
		_, _ = rand.Read(secret) // never fails
		for _, alg := range algorithms {
			k := signer{alg: alg}
			switch alg[:2] {
			case "HS":
				k.private, k.public = secret, secret
			case "RS", "PS":
				k.private, k.public = rsaKey, &rsaKey.PublicKey
			case "ES":
				curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg]
				ec, err := ecdsa.GenerateKey(curve, rand.Reader)
				if err != nil {
					return nil, err
				}
				k.private, k.public = ec, &ec.PublicKey
			case "Ed":
				pub, private, err := ed25519.GenerateKey(rand.Reader)
				if err != nil {
					return nil, err
				}
				k.private, k.public = private, pub
			}
			m[alg] = k
		}
	}
	return s, nil
})

func testSigners(t testing.TB) *signers {
	t.Helper()
	s, err := madeSigners()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signature is that of the algorithm alg, whatever the signer's own is.
func (s signer) signature(t testing.TB, alg, text string) string {
	t.Helper()
	sig, err := jwt.GetSigningMethod(alg).Sign(text, s.private)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sig)
}

// raw signs header and claims as they are written.
func (s signer) raw(t testing.TB, header, claims string) string {
	t.Helper()
	text := b64(header) + "." + b64(claims)
	return text + "." + s.signature(t, s.alg, text)
}

// token signs claims, with a kid if it is not "".
func (s signer) token(t testing.TB, kid, claims string) string {
	t.Helper()
	h := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, s.alg)
	if kid != "" {
		h = fmt.Sprintf(`{"alg":%q,"kid":%q}`, s.alg, kid)
	}
	return s.raw(t, h, claims)
}

// pem is the public key as a configuration has it.
func (s signer) pem(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// config is the key as an item of `keys`.
func (s signer) config(t testing.TB, more string) string {
	t.Helper()
	if secret, ok := s.private.([]byte); ok {
		return fmt.Sprintf("{algorithm: %s, secret_base64: %q%s}", s.alg, base64.StdEncoding.EncodeToString(secret), more)
	}
	return fmt.Sprintf("{algorithm: %s, public_key: %q%s}", s.alg, s.pem(t), more)
}

// jwk is the key as a member of a key set; more are further members, with a comma before.
func (s signer) jwk(kid, more string) string {
	b := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	id := ""
	if kid != "" {
		id = fmt.Sprintf(`,"kid":%q`, kid)
	}
	switch pub := s.public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"%s%s}`, b(pub.N, (pub.N.BitLen()+7)/8), id, more)
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		raw, _ := pub.Bytes() // of a key that was generated
		x, y := base64.RawURLEncoding.EncodeToString(raw[1:1+size]), base64.RawURLEncoding.EncodeToString(raw[1+size:])
		return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q%s%s}`, pub.Curve.Params().Name, x, y, id, more)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q%s%s}`, base64.RawURLEncoding.EncodeToString(pub), id, more)
	}
	return fmt.Sprintf(`{"kty":"oct","k":%q%s%s}`, base64.RawURLEncoding.EncodeToString(s.private.([]byte)), id, more)
}

// clock is a time that tests move.
type clock struct{ ahead atomic.Int64 }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time       { return noon.Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

// claimsAt are claims that are good from now for a quarter of an hour.
func claimsAt(now time.Time, more string) string {
	return fmt.Sprintf(`{"iss":"https://issuer.example","aud":"api","sub":"u-1","iat":%d,"exp":%d%s}`, now.Unix(), now.Add(15*time.Minute).Unix(), more)
}

// newTest makes a plugin at the clock's time.
func newTest(t testing.TB, env plugin.Env, clk *clock, config string) *jwtAuth {
	t.Helper()
	env.Now = clk.now
	return plugintest.New(t, Kind, env, config).(*jwtAuth)
}

// indent makes a JSON object of pairs, for readers of tables.
func object(pairs ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(pairs[i])
		b.Write(name)
		b.WriteByte(':')
		b.WriteString(pairs[i+1])
	}
	b.WriteByte('}')
	return b.String()
}

// asymmetric are the algorithms with public keys.
func asymmetric() []string {
	return slices.DeleteFunc(slices.Clone(algorithms), func(a string) bool { return strings.HasPrefix(a, "HS") })
}

var _ crypto.PublicKey = (*rsa.PublicKey)(nil)
