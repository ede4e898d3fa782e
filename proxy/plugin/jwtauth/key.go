package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"

	_ "crypto/sha512" // of HS384, RS512 and their like
)

// key checks the signatures of one algorithm, which is its own: what a token says of its algorithm only has to be equal.
type key struct {
	id       string // "" : any
	issuer   string // "": any
	method   jwt.SigningMethod
	material any           // what method.Verify takes
	consumer *rpc.Consumer // whose it is; nil: nobody's
	set      *keySet       // that it is of; nil: of the configuration
	print    string        // differs where anything else does
	gone     atomic.Bool   // removed from its set
}

// live tells whether the key still counts: it has not been removed, and what its set says is not too old.
func (k *key) live(now time.Time) bool {
	return k.set == nil || !k.gone.Load() && k.set.fresh(now)
}

// checks tells whether sig is the key's signature of text.
func (k *key) checks(text string, sig []byte) bool {
	return k.method.Verify(text, sig, k.material) == nil
}

// algorithms are those there are. There is no "none".
var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// methodOf finds an algorithm by its exact name.
func methodOf(name string) jwt.SigningMethod {
	switch name {
	case "HS256":
		return jwt.SigningMethodHS256
	case "HS384":
		return jwt.SigningMethodHS384
	case "HS512":
		return jwt.SigningMethodHS512
	case "RS256":
		return jwt.SigningMethodRS256
	case "RS384":
		return jwt.SigningMethodRS384
	case "RS512":
		return jwt.SigningMethodRS512
	case "PS256":
		return jwt.SigningMethodPS256
	case "PS384":
		return jwt.SigningMethodPS384
	case "PS512":
		return jwt.SigningMethodPS512
	case "ES256":
		return jwt.SigningMethodES256
	case "ES384":
		return jwt.SigningMethodES384
	case "ES512":
		return jwt.SigningMethodES512
	case "EdDSA":
		return jwt.SigningMethodEdDSA
	}
	return nil
}

// What keys have to be at least and at most.
const (
	minRSA = 2048 // bits, RFC 7518 section 3.3
	maxRSA = 8192 // a check takes the longer the larger it is
	maxID  = 256  // bytes of a `kid`
)

// keyConfig is what the messages Key and Credential have in common.
type keyConfig interface {
	GetId() string
	GetAlgorithm() string
	GetSecret() string
	GetSecretBase64() string
	GetPublicKey() string
	GetIssuer() string
}

// newKey makes a key of its configuration at path.
func newKey(path string, conf keyConfig) (*key, error) {
	k := &key{id: conf.GetId(), issuer: conf.GetIssuer(), method: methodOf(conf.GetAlgorithm())}
	if k.method == nil {
		fix := "name one of: " + strings.Join(algorithms, ", ")
		if conf.GetAlgorithm() == "" {
			return nil, plugin.Faultf(path+".algorithm", fix, "a key has the one algorithm that it is for, and here is none")
		}
		return nil, plugin.Faultf(path+".algorithm", fix, "unknown algorithm %q", conf.GetAlgorithm())
	}
	if len(k.id) > maxID {
		return nil, plugin.Faultf(path+".id", "write a shorter one", "wanted at most %d bytes", maxID)
	}
	given := 0
	for _, v := range []string{conf.GetSecret(), conf.GetSecretBase64(), conf.GetPublicKey()} {
		if v != "" {
			given++
		}
	}
	symmetric := strings.HasPrefix(k.method.Alg(), "HS")
	switch {
	case given != 1:
		return nil, plugin.Faultf(path, "give `secret` for HS, `public_key` for the others", "wanted one of `secret`, `secret_base64` and `public_key`, found %d", given)
	case symmetric && conf.GetPublicKey() != "":
		return nil, plugin.Faultf(path+".public_key", "name the algorithm that signs, such as RS256", "%s has a secret, not a public key", k.method.Alg())
	case !symmetric && conf.GetPublicKey() == "":
		return nil, plugin.Faultf(path, "give the signer's `public_key`", "%s has a public key, not a secret", k.method.Alg())
	}
	var err error
	if symmetric {
		k.material, err = secretOf(path, conf, k.method)
	} else {
		k.material, err = publicKeyOf(path+".public_key", conf.GetPublicKey(), k.method.Alg())
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// secretOf reads the secret of a HS key.
func secretOf(path string, conf keyConfig, method jwt.SigningMethod) ([]byte, error) {
	secret, at := []byte(conf.GetSecret()), path+".secret"
	if text := conf.GetSecretBase64(); text != "" {
		at = path + ".secret_base64"
		var err error
		if secret, err = decodeAnyBase64(text); err != nil {
			return nil, plugin.Faultf(at, "make one with: openssl rand -base64 64", "wanted base64")
		}
	}
	if strings.Contains(string(secret), "-----BEGIN ") {
		return nil, plugin.Faultf(at, "name the algorithm of the key pair and give `public_key`", "a PEM file is no secret: whoever has the public key could sign")
	}
	if h, ok := method.(*jwt.SigningMethodHMAC); !ok || len(secret) < h.Hash.Size() {
		return nil, plugin.Faultf(at, "make one with: openssl rand -base64 64", "%s wants a secret of at least %d bytes, found %d", method.Alg(), h.Hash.Size(), len(secret))
	}
	return secret, nil
}

// decodeAnyBase64 reads base64 in either alphabet, with or without padding.
func decodeAnyBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	return base64.RawStdEncoding.Strict().DecodeString(text)
}

// publicKeyOf reads a public key in PEM that can check signatures of an algorithm.
func publicKeyOf(path, text, algorithm string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil {
		return nil, plugin.Faultf(path, "write it as ${file:key.pem}", "wanted a public key in PEM, which begins with -----BEGIN PUBLIC KEY-----")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, plugin.Faultf(path, "write each as a key of its own", "wanted one PEM block, found several")
	}
	var pub any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		pub, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			pub = cert.PublicKey
		}
	default:
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, plugin.Faultf(path, "keep it with the signer, and give: openssl pkey -in key.pem -pubout", "a private key: the gateway needs the public one only")
		}
		return nil, plugin.Faultf(path, "give a PUBLIC KEY or a CERTIFICATE", "wanted a public key in PEM, found a block of type %q", block.Type)
	}
	if err != nil {
		return nil, plugin.Faultf(path, "make it with: openssl pkey -in key.pem -pubout", "a public key that does not parse")
	}
	if err := suits(pub, algorithm); err != nil {
		return nil, plugin.Faultf(path, "give the key that signs with "+algorithm, "%s", err)
	}
	return pub, nil
}

// suits holds a public key against an algorithm.
func suits(pub any, algorithm string) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if !strings.HasPrefix(algorithm, "RS") && !strings.HasPrefix(algorithm, "PS") {
			return fmt.Errorf("an RSA key does not sign with %s", algorithm)
		}
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("wanted an RSA key of %d to %d bits, found %d", minRSA, maxRSA, n)
		}
		if pub.E < 3 || pub.E&1 == 0 {
			return errors.New("wanted an RSA key with an odd exponent of at least 3")
		}
	case *ecdsa.PublicKey:
		if want := algorithmOfCurve(pub.Curve); want != algorithm {
			return fmt.Errorf("an EC key on %s does not sign with %s", pub.Curve.Params().Name, algorithm)
		}
	case ed25519.PublicKey:
		if algorithm != "EdDSA" {
			return fmt.Errorf("an Ed25519 key does not sign with %s", algorithm)
		}
	default:
		return fmt.Errorf("wanted an RSA, EC or Ed25519 key, found %T", pub)
	}
	return nil
}

func algorithmOfCurve(c elliptic.Curve) string {
	switch c {
	case elliptic.P256():
		return "ES256"
	case elliptic.P384():
		return "ES384"
	case elliptic.P521():
		return "ES512"
	}
	return ""
}

// printOf is text that differs where keys do.
func printOf(id, algorithm string, pub any) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return algorithm + "\x00" + string(sum[:]) + id, nil
}

// keys are those of the configuration: of everybody's tokens, and of consumers.
type keys struct {
	byID map[string][]*key
	// free have no id: they are tried for tokens that no other key fits. There are few of one issuer.
	free map[string][]*key
}

// maxFree is how many keys without an id one issuer may have: a token is held against each.
const maxFree = 16

// add takes a key in.
func (ks *keys) add(path string, k *key) error {
	if k.id != "" {
		for _, other := range ks.byID[k.id] {
			if other.issuer == k.issuer || other.issuer == "" || k.issuer == "" {
				return plugin.Faultf(path+".id", "give each its own, or each its own issuer", "another key has the id %q", k.id)
			}
		}
		ks.byID[k.id] = append(ks.byID[k.id], k)
		return nil
	}
	own := ks.free[k.issuer]
	if len(own) >= maxFree {
		return plugin.Faultf(path, "give the keys ids", "more than %d keys without an id", maxFree)
	}
	if k.consumer != nil && slices.ContainsFunc(own, func(o *key) bool { return o.consumer != k.consumer && sameKey(o, k) }) {
		return plugin.Faultf(path, "give each its own", "another consumer has the same key")
	}
	ks.free[k.issuer] = append(own, k)
	return nil
}

func sameKey(a, b *key) bool {
	if a.method != b.method {
		return false
	}
	switch m := a.material.(type) {
	case []byte:
		return string(m) == string(b.material.([]byte))
	case interface{ Equal(x crypto.PublicKey) bool }:
		return m.Equal(b.material)
	}
	return false
}
