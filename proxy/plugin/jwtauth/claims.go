package jwtauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// lack is what a token that is good does not allow.
type lack uint8

const (
	nothing lack = iota
	scope
	claim
)

// required is a claim that a token has to have.
type required struct {
	claim  string
	values []string // nil: any
}

// assertion is a header made of a claim.
type assertion struct{ header, claim string }

// terms are what a token is held against, beside its signature.
type terms struct {
	audiences   []string
	issuers     []string
	leeway      float64 // seconds
	missingExp  bool
	maxLifetime float64 // seconds; 0: any
	scopes      []string
	required    []required
	assertions  []assertion
	consumer    string // the claim that names one
}

// claims makes of a token whose signature holds what is remembered of it. The error says why the token is not good; what
// is not good at the moment only is for timely to tell.
func (w *terms) claims(t *token, now time.Time) (*verified, error) {
	v := &verified{}
	if err := w.times(t, v, now); err != nil {
		return nil, err
	}
	if err := w.parties(t); err != nil {
		return nil, err
	}
	for _, name := range []string{"sub", "jti"} {
		if _, _, ok := t.text(name); !ok {
			return nil, fmt.Errorf("claim %q: wanted a string", name)
		}
	}
	have := scopesOf(t.claims)
	for _, s := range w.scopes {
		if !slices.Contains(have, s) {
			v.lacks = scope
		}
	}
	for _, r := range w.required {
		if v.lacks == nothing && !r.met(t.claims) {
			v.lacks = claim
		}
	}
	for _, a := range w.assertions {
		value, ok := lookUp(t.claims, a.claim)
		if !ok || value == nil {
			continue
		}
		s, err := headerOf(value, strings.HasSuffix(a.header, "-bin"))
		if err != nil {
			return nil, fmt.Errorf("claim %q for header %q: %w", a.claim, a.header, err)
		}
		v.headers.Add(a.header, s)
	}
	if w.consumer != "" {
		value, _ := lookUp(t.claims, w.consumer)
		v.consumer, _ = value.(string)
	}
	floats(t.claims)
	v.claims = t.claims
	return v, nil
}

// times reads exp, nbf and iat (RFC 7519 section 4.1.4 to 4.1.6).
func (w *terms) times(t *token, v *verified, now time.Time) error {
	exp, there, err := t.seconds("exp")
	switch {
	case err != nil:
		return err
	case there && exp <= 0:
		return errors.New(`claim "exp": wanted a time after 1970`)
	case !there && !w.missingExp:
		return errors.New(`claim "exp" is missing`)
	}
	v.notAfter = exp
	for _, name := range []string{"nbf", "iat"} {
		at, there, err := t.seconds(name)
		if err != nil {
			return err
		}
		if there {
			v.notBefore = max(v.notBefore, at)
		}
	}
	if w.maxLifetime > 0 && (!there || exp > float64(now.Unix())+w.maxLifetime+w.leeway) {
		return errors.New(`claim "exp" lies further ahead than max_lifetime`)
	}
	if !v.timely(now, w.leeway) {
		return errTime
	}
	return nil
}

var errTime = errors.New("the token is not valid yet, or no longer")

// parties holds iss and aud against those wanted.
func (w *terms) parties(t *token) error {
	iss, _, ok := t.text("iss")
	if !ok {
		return errors.New(`claim "iss": wanted a string`)
	}
	if len(w.issuers) > 0 && !slices.Contains(w.issuers, iss) {
		return fmt.Errorf("issuer %.100q is not taken", iss)
	}
	var audience []string
	switch aud := t.claims["aud"].(type) {
	case nil:
	case string:
		audience = []string{aud}
	case []any:
		for _, a := range aud {
			s, ok := a.(string)
			if !ok {
				return errors.New(`claim "aud": wanted strings`)
			}
			audience = append(audience, s)
		}
	default:
		return errors.New(`claim "aud": wanted a string or a list`)
	}
	if len(w.audiences) > 0 && !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(w.audiences, a) }) {
		return errors.New("the token is for another audience")
	}
	return nil
}

// scopesOf are the scopes of a token: `scope` with spaces between (RFC 9068 section 2.2.3), or `scp`, also as a list.
func scopesOf(claims map[string]any) []string {
	var out []string
	for _, name := range []string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			out = append(out, strings.Fields(v)...)
		case []any:
			for _, s := range v {
				if s, ok := s.(string); ok {
					out = append(out, s)
				}
			}
		}
	}
	return out
}

// lookUp finds a claim by its name, or below others by names with dots between. A claim whose own name has dots comes first.
func lookUp(claims map[string]any, path string) (any, bool) {
	if v, ok := claims[path]; ok {
		return v, true
	}
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if below, ok := claims[path[:i]].(map[string]any); ok {
			if v, ok := lookUp(below, path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// met tells whether the claims have what is required.
func (r *required) met(claims map[string]any) bool {
	v, ok := lookUp(claims, r.claim)
	if !ok || v == nil {
		return false
	}
	if r.values == nil {
		return true
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, r.has)
	}
	return r.has(v)
}

func (r *required) has(v any) bool {
	s, ok := textOf(v)
	return ok && slices.Contains(r.values, s)
}

// textOf is a string, number or bool as text; numbers as the token writes them, where that is an integer.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return v.String(), true
		}
		f, _ := v.Float64()
		return strconv.FormatFloat(f, 'f', -1, 64), true
	}
	return "", false
}

// maxHeader is how long a header made of a claim may be.
const maxHeader = 4096

// headerOf is the value of a header made of a claim: text as it is, a list of texts with commas between, everything else as
// JSON. binary: the header takes any bytes.
func headerOf(v any, binary bool) (string, error) {
	s, ok := textOf(v)
	if list, isList := v.([]any); isList && !binary {
		s, ok = joined(list)
	}
	if !ok {
		raw, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		s = string(raw)
	}
	if !binary && !plugin.Printable(s) {
		return "", errors.New("has a byte that a header cannot carry: give it to one whose name ends in -bin")
	}
	if len(s) > maxHeader {
		return "", fmt.Errorf("is longer than %d bytes", maxHeader)
	}
	return s, nil
}

// joined is a list of texts with commas between, unless that could be another list.
func joined(list []any) (string, bool) {
	parts := make([]string, len(list))
	for i, e := range list {
		part, ok := textOf(e)
		if !ok || strings.Contains(part, ",") {
			return "", false
		}
		parts[i] = part
	}
	return strings.Join(parts, ","), true
}

// newAssertions reads claims_to_headers.
func newAssertions(conf map[string]string) ([]assertion, []string, error) {
	var out []assertion
	var names []string
	for _, name := range slices.Sorted(maps.Keys(conf)) {
		at := fmt.Sprintf("claims_to_headers[%q]", name)
		header := strings.ToLower(name)
		if err := plugin.CheckCarrier(at, header); err != nil {
			return nil, nil, err
		}
		if header == "authorization" {
			return nil, nil, plugin.Faultf(at, "name another, or say forward: true", "%q carries the token itself", name)
		}
		if conf[name] == "" {
			return nil, nil, plugin.Faultf(at, "name the claim: sub", "a header of no claim")
		}
		if i := slices.IndexFunc(names, func(n string) bool { return plugin.SameHeader(n, header) }); i >= 0 {
			return nil, nil, plugin.Faultf(at, "remove one", "services may take %q and %q for one header", name, names[i])
		}
		names = append(names, header)
		out = append(out, assertion{header, conf[name]})
	}
	return out, names, nil
}

// sizeOf is what a verified token takes in memory, as an estimate.
func sizeOf(t *token, text string, headers rpc.Metadata) int {
	n := entrySize + 2*len(text) + perValue*t.values
	for i := range headers {
		n += len(headers[i].Value) + perValue
	}
	return n
}
