package jwtauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// maxToken is the longest token that is looked at.
const maxToken = 8 << 10

// token is a JWS in compact form, read and not verified.
type token struct {
	algorithm string
	id        string // `kid`
	hasID     bool
	claims    map[string]any // numbers are json.Number
	values    int            // of the claims
	signed    string         // what the signature is of
	signature []byte
}

var (
	errTooLong = fmt.Errorf("the token is longer than %d bytes", maxToken)
	errParts   = errors.New("wanted a token of three parts in base64url")
	errKeyID   = fmt.Errorf("wanted a kid that is a string of at most %d bytes", maxID)
)

// refused are parameters of a header (RFC 7515 section 4.1, RFC 7516) that change what is signed or with what: keys that come
// with the token, extensions that have to be understood, encryption.
var refused = []string{"crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip", "epk", "apu", "apv", "p2s", "p2c", "iv", "tag"}

// readToken reads a token. Nothing of it is believed so far.
func readToken(text string) (*token, error) {
	if len(text) > maxToken {
		return nil, errTooLong
	}
	head, rest, ok := strings.Cut(text, ".")
	claims, sig, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || head == "" || claims == "" || sig == "" {
		return nil, errParts
	}
	// The decoder passes over line ends, and takes them for nothing.
	for i := range len(text) {
		if c := text[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return nil, errParts
		}
	}
	t := &token{signed: text[:len(head)+1+len(claims)]}
	if err := t.readHeader(head); err != nil {
		return nil, err
	}
	raw, err := decode(claims)
	if err != nil {
		return nil, err
	}
	if t.claims, t.values, err = readObject(raw); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	t.signature, err = decode(sig)
	return t, err
}

// decode reads base64url without padding, of which each text is one of one sequence of bytes alone.
func decode(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errParts
	}
	return b, nil
}

func (t *token) readHeader(text string) error {
	raw, err := decode(text)
	if err != nil {
		return err
	}
	h, _, err := readObject(raw)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	for _, name := range refused {
		if _, there := h[name]; there {
			return fmt.Errorf("the header has %q, which is not taken", name)
		}
	}
	if t.algorithm, _ = h["alg"].(string); methodOf(t.algorithm) == nil {
		return fmt.Errorf("algorithm %.20q is not taken", t.algorithm)
	}
	if id, there := h["kid"]; there {
		if t.id, t.hasID = id.(string); !t.hasID || len(t.id) > maxID {
			return errKeyID
		}
	}
	for _, name := range []string{"typ", "cty"} {
		v, there := h[name]
		if s, ok := v.(string); there && !ok || name == "cty" && strings.EqualFold(strings.TrimPrefix(strings.ToLower(s), "application/"), "jwt") {
			return fmt.Errorf("the header's %q is not taken", name)
		}
	}
	return nil
}

// text is a claim that is a string; there is false where it is not there, ok where it is and is something else.
func (t *token) text(claim string) (value string, there, ok bool) {
	v, there := t.claims[claim]
	if !there {
		return "", false, true
	}
	value, ok = v.(string)
	return value, true, ok
}

// seconds is a claim that is a time: seconds since 1970 (RFC 7519 section 2).
func (t *token) seconds(claim string) (value float64, there bool, err error) {
	v, there := t.claims[claim]
	if !there {
		return 0, false, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, true, fmt.Errorf("claim %q: wanted a number", claim)
	}
	if value, err = n.Float64(); err == nil && math.Abs(value) > lastSecond {
		err = fmt.Errorf("claim %q: wanted seconds since 1970, before the year 10000", claim)
	}
	return value, true, err
}

// lastSecond is the end of the year 9999. What lies behind is milliseconds, or a mistake.
const lastSecond = 253402300799
