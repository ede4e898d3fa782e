package jwtauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// maxKeys is how many keys a set may have.
const maxKeys = 100

var errKeys = errors.New(`wanted {"keys": [...]}`)

// readSet reads a JSON Web Key Set (RFC 7517 section 5). Keys that cannot check signatures here are passed over, and
// counted.
func readSet(text []byte, taken []string) (ks []*key, skipped int, err error) {
	object, _, err := readObject(text)
	if err != nil {
		return nil, 0, err
	}
	list, ok := object["keys"].([]any)
	if !ok {
		return nil, 0, errKeys
	}
	if len(list) > maxKeys {
		return nil, 0, fmt.Errorf("the set has %d keys: at most %d are taken", len(list), maxKeys)
	}
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, 0, errKeys
		}
		k, err := readKey(m, taken)
		if err != nil {
			skipped++
			continue
		}
		ks = append(ks, k)
	}
	return ks, skipped, nil
}

// readKey reads one public key; taken are the algorithms that may be, in their order; nil: all.
func readKey(m map[string]any, taken []string) (*key, error) {
	if use, there := m["use"]; there && use != "sig" {
		return nil, errors.New("not for signatures")
	}
	if ops, there := m["key_ops"]; there {
		if list, ok := ops.([]any); !ok || !slices.Contains(list, any("verify")) {
			return nil, errors.New("not for verifying")
		}
	}
	k := &key{}
	if id, there := m["kid"]; there {
		var ok bool
		if k.id, ok = id.(string); !ok || len(k.id) > maxID {
			return nil, errKeyID
		}
	}
	pub, algorithms, err := publicOf(m)
	if err != nil {
		return nil, err
	}
	// The one algorithm that the key is for: its own word, else the first that is taken.
	var algorithm string
	if v, there := m["alg"]; there {
		algorithm, _ = v.(string)
		if algorithm == "Ed25519" { // RFC 9864, of which tokens say EdDSA still
			algorithm = "EdDSA"
		}
		if !slices.Contains(algorithms, algorithm) || taken != nil && !slices.Contains(taken, algorithm) {
			return nil, fmt.Errorf("algorithm %.20q", algorithm)
		}
	} else if taken == nil {
		algorithm = algorithms[0]
	} else if i := slices.IndexFunc(taken, func(a string) bool { return slices.Contains(algorithms, a) }); i >= 0 {
		algorithm = taken[i]
	} else {
		return nil, errors.New("no algorithm")
	}
	if err := suits(pub, algorithm); err != nil {
		return nil, err
	}
	k.method, k.material = methodOf(algorithm), pub
	k.print, err = printOf(k.id, algorithm, pub)
	return k, err
}

// publicOf is the public key of a JWK (RFC 7518 section 6, RFC 8037), with the algorithms that it may be for.
func publicOf(m map[string]any) (pub any, algorithms []string, err error) {
	curve, _ := m["crv"].(string)
	switch m["kty"] {
	case "RSA":
		n, err := number(m, "n", maxRSA/8)
		if err != nil {
			return nil, nil, err
		}
		e, err := number(m, "e", 4)
		if err != nil {
			return nil, nil, err
		}
		exponent := new(big.Int).SetBytes(e).Int64() // four bytes at most
		if exponent > 1<<31-1 {
			return nil, nil, errors.New("e")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)},
			[]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case "EC":
		var c elliptic.Curve
		var algorithm string
		switch curve {
		case "P-256":
			c, algorithm = elliptic.P256(), "ES256"
		case "P-384":
			c, algorithm = elliptic.P384(), "ES384"
		case "P-521":
			c, algorithm = elliptic.P521(), "ES512"
		default:
			return nil, nil, fmt.Errorf("curve %.20q", curve)
		}
		size := (c.Params().BitSize + 7) / 8
		x, err := number(m, "x", size)
		if err != nil {
			return nil, nil, err
		}
		y, err := number(m, "y", size)
		if err != nil {
			return nil, nil, err
		}
		if len(x) != size || len(y) != size {
			return nil, nil, errors.New("a coordinate is too short")
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(c, append(append([]byte{4}, x...), y...))
		return pub, []string{algorithm}, err
	case "OKP":
		x, err := number(m, "x", ed25519.PublicKeySize)
		if err != nil {
			return nil, nil, err
		}
		if curve != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, nil, fmt.Errorf("curve %.20q", curve)
		}
		return ed25519.PublicKey(x), []string{"EdDSA"}, nil
	}
	return nil, nil, errors.New("neither RSA, EC nor OKP")
}

// number is a member in base64url of at most so many bytes.
func number(m map[string]any, name string, most int) ([]byte, error) {
	text, _ := m[name].(string)
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) == 0 || len(b) > most {
		return nil, fmt.Errorf("%s: wanted 1 to %d bytes in base64url", name, most)
	}
	return b, nil
}
