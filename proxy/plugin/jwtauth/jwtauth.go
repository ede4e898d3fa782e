// Package jwtauth is the plugin jwt_auth: it knows callers by a signed token, with the keys of the configuration, of
// consumers, and of key sets that servers publish.
package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	jwtauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/jwtauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:       "jwt_auth",
	Config:     func() proto.Message { return new(jwtauthv1.JWTAuth) },
	Credential: func() proto.Message { return new(jwtauthv1.Credential) },
	New:        newPlugin,
}

// The reasons of refusals beside those of package plugin.
const (
	ReasonScope       = "SCOPE_INSUFFICIENT"
	ReasonClaim       = "CLAIM_INSUFFICIENT"
	ReasonUnavailable = "KEYS_UNAVAILABLE"
)

// What RFC 6750 section 3 has answers say.
const (
	challenge        = `Bearer realm="causeway"`
	challengeInvalid = challenge + `, error="invalid_token"`
	challengeClaim   = challenge + `, error="insufficient_scope"`
)

// jwtAuth never changes once made, but for what it remembers.
type jwtAuth struct {
	terms
	header, cookie, query string // where tokens are; "": not there
	headers               []string
	asserted              []string // the headers made of claims
	forward               bool
	allowUnknown          bool
	challengeScope        string

	keys  keys
	sets  []*keySet
	cache *cache

	now        func() time.Time
	consumerOf func(name string) *rpc.Consumer

	remembered, verified, refused, missing, forbidden, unavailable *telemetry.Counter
}

var (
	_ plugin.Authenticator = (*jwtAuth)(nil)
	_ plugin.Discarder     = (*jwtAuth)(nil)
	_ plugin.Asserter      = (*jwtAuth)(nil)
)

const (
	defaultLeeway = 60 * time.Second
	maxLeeway     = 10 * time.Minute
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*jwtauthv1.JWTAuth)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	p := &jwtAuth{forward: conf.GetForward(), allowUnknown: conf.GetAllowUnknownConsumers(), now: env.Now, consumerOf: env.Consumer}
	if err := p.carriers(conf); err != nil {
		return nil, err
	}
	if err := p.newTerms(conf); err != nil {
		return nil, err
	}
	if err := p.newKeys(conf, env.Credentials); err != nil {
		return nil, err
	}
	limit := conf.GetCacheBytes()
	switch {
	case limit < 0 || limit > maxCache:
		return nil, plugin.Faultf("cache_bytes", "write 16777216", "wanted at most %d bytes, found %d", maxCache, limit)
	case limit == 0:
		limit = defaultCache
	}
	var err error
	if p.cache, err = newCache(int(limit)); err != nil {
		return nil, err
	}
	calls, err := env.Meter.Counter("causeway_jwt_auth_total", "", "Calls that jwt_auth looked at, by result.", "result")
	if err != nil {
		return nil, err
	}
	p.remembered, p.verified, p.refused = calls.With("remembered"), calls.With("verified"), calls.With("refused")
	p.missing, p.forbidden, p.unavailable = calls.With("missing"), calls.With("forbidden"), calls.With("unavailable")
	return p, p.newSets(conf.GetKeySets(), env) // last: they fetch from here on
}

// carriers reads where tokens are.
func (p *jwtAuth) carriers(conf *jwtauthv1.JWTAuth) error {
	p.header, p.cookie, p.query = strings.ToLower(conf.GetHeader()), conf.GetCookie(), conf.GetQuery()
	if p.header == "" && p.cookie == "" && p.query == "" {
		p.header = "authorization"
	}
	if p.header != "" {
		if err := plugin.CheckCarrier("header", p.header); err != nil {
			return err
		}
		p.headers = []string{p.header}
	}
	if strings.ContainsAny(p.cookie, "=;, \t\"") {
		return plugin.Faultf("cookie", "write the cookie's name alone", "%q is not the name of a cookie", p.cookie)
	}
	return nil
}

// newTerms reads what tokens are held against.
func (p *jwtAuth) newTerms(conf *jwtauthv1.JWTAuth) error {
	leeway := defaultLeeway
	if d := conf.GetLeeway(); d != nil {
		if leeway = d.AsDuration(); leeway < 0 || leeway > maxLeeway {
			return plugin.Faultf("leeway", "write 60s", "wanted 0s to %s, found %s", maxLeeway, leeway)
		}
	}
	p.terms = terms{
		audiences: conf.GetAudiences(), issuers: conf.GetIssuers(), leeway: leeway.Seconds(), missingExp: conf.GetAllowMissingExp(),
		scopes: conf.GetScopes(), consumer: conf.GetConsumerClaim(),
	}
	if d := conf.GetMaxLifetime(); d != nil {
		if p.maxLifetime = d.AsDuration().Seconds(); p.maxLifetime <= 0 {
			return plugin.Faultf("max_lifetime", "write 3600s", "wanted more than 0s, found %s", d.AsDuration())
		}
	}
	if p.maxLifetime > 0 && p.missingExp {
		return plugin.Faultf("allow_missing_exp", "remove one of them", "`allow_missing_exp` beside `max_lifetime`")
	}
	for _, list := range []struct {
		path   string
		values []string
	}{{"audiences", p.audiences}, {"issuers", p.issuers}, {"scopes", p.scopes}} {
		if i := slices.Index(list.values, ""); i >= 0 {
			return plugin.Faultf(fmt.Sprintf("%s[%d]", list.path, i), "remove it", "an empty value, which no token has")
		}
	}
	if i := slices.IndexFunc(p.scopes, func(s string) bool { return strings.ContainsAny(s, " \t\"\\") || !plugin.Printable(s) }); i >= 0 {
		return plugin.Faultf(fmt.Sprintf("scopes[%d]", i), "write each scope as an item of its own", "%q is not one scope", p.scopes[i])
	}
	p.challengeScope = challengeClaim + `, scope="` + strings.Join(p.scopes, " ") + `"`
	for i, r := range conf.GetRequiredClaims() {
		if r.GetClaim() == "" {
			return plugin.Faultf(fmt.Sprintf("required_claims[%d].claim", i), "name the claim", "a required claim without a name")
		}
		p.required = append(p.required, required{r.GetClaim(), r.GetValues()})
	}
	if p.allowUnknown && p.consumer == "" {
		return plugin.Faultf("allow_unknown_consumers", "name the claim in consumer_claim, or remove it", "no claim names consumers")
	}
	var err error
	p.assertions, p.asserted, err = newAssertions(conf.GetClaimsToHeaders())
	return err
}

// newKeys reads the keys of the configuration and of consumers.
func (p *jwtAuth) newKeys(conf *jwtauthv1.JWTAuth, creds []plugin.Credential) error {
	if len(conf.GetKeys()) == 0 && len(conf.GetKeySets()) == 0 && len(creds) == 0 {
		return plugin.Faultf("", "add keys, key_sets, or credentials of consumers", "no key checks tokens")
	}
	p.keys = keys{byID: map[string][]*key{}, free: map[string][]*key{}}
	for i, c := range conf.GetKeys() {
		path := fmt.Sprintf("keys[%d]", i)
		k, err := newKey(path, c)
		if err == nil {
			err = p.keys.add(path, k)
		}
		if err != nil {
			return err
		}
	}
	for i := range creds {
		c, ok := creds[i].Config.(*jwtauthv1.Credential)
		if !ok {
			return fmt.Errorf("want a credential of type %T, found %T", c, creds[i].Config)
		}
		k, err := newKey(creds[i].Path, c)
		if err == nil && k.id == "" && k.issuer == "" {
			err = plugin.Faultf(creds[i].Path, "add the `id` or the `issuer` of the consumer's tokens", "a key of a consumer without `id` and `issuer`")
		}
		if err == nil {
			k.consumer = creds[i].Consumer
			err = p.keys.add(creds[i].Path, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newSets starts to fetch the key sets, or goes on with those of the former plugin.
func (p *jwtAuth) newSets(confs []*jwtauthv1.KeySet, env plugin.Env) error {
	sets := make([]*keySet, len(confs))
	for i, conf := range confs {
		path := fmt.Sprintf("key_sets[%d]", i)
		if conf.GetUrl() == "" && conf.GetOpenid() == "" {
			return plugin.Faultf(path, "add the `url` of the set, or `openid` with the issuer's", "a key set without a place")
		}
		var err error
		if sets[i], err = newKeySet(path, conf, env); err != nil {
			return err
		}
	}
	if len(sets) > 0 && len(p.audiences) == 0 {
		env.Log.Warn("jwt_auth has key sets and no audiences: what their issuers sign for other services is good here too")
	}
	for i, fresh := range sets { // all are well configured
		set, err := plugin.StateOf(env, fmt.Sprintf("key_sets[%d]", i), func() (*keySet, error) {
			fresh.start()
			return fresh, nil
		})
		if err != nil {
			return err
		}
		p.sets = append(p.sets, set)
	}
	return nil
}

// Wrap implements plugin.Plugin.
func (p *jwtAuth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(p, next) }

// WithoutHTTP implements plugin.HTTPReader: headers and cookies are also among metadata.
func (p *jwtAuth) WithoutHTTP(*schema.Method) (why string) {
	if p.header == "" && p.cookie == "" {
		return "tokens are in the query, which requests by HTTP have"
	}
	return ""
}

// RequestHeaders implements plugin.Scripted.
func (p *jwtAuth) RequestHeaders() []string { return p.headers }

// Asserts implements plugin.Asserter.
func (p *jwtAuth) Asserts() []string { return p.asserted }

// carrier is where a call shows its token.
type carrier uint8

const (
	nowhere carrier = iota
	inHeader
	inCookie
	inQuery
)

var (
	errTwice    = errors.New("more than one token was shown")
	errConsumer = errors.New("the token names no consumer that is known")
)

// Authenticate implements plugin.Authenticator.
func (p *jwtAuth) Authenticate(ctx context.Context, c *rpc.Call) error {
	text, from, n := p.shown(c)
	switch {
	case from == nowhere:
		p.missing.Inc()
		return plugin.Missing(challenge)
	case n > 1:
		return p.invalid(errTwice)
	case len(text) > maxToken:
		return p.invalid(errTooLong)
	}
	now := p.now()
	count := p.remembered
	v := p.cache.get(text)
	if v != nil && (!v.key.live(now) || !v.timely(now, p.leeway)) {
		p.cache.remove(text)
		v = nil // why it is good no longer is found below
	}
	if v == nil {
		var err error
		if v, err = p.verify(ctx, text, now); err != nil {
			return p.refusal(ctx, err)
		}
		count = p.verified
		p.cache.add(v)
	}
	if v.lacks != nothing {
		p.forbidden.Inc()
		return p.lacking(v.lacks)
	}
	u := v.key.consumer
	if u == nil && p.consumer != "" {
		if v.consumer != "" && p.consumerOf != nil {
			u = p.consumerOf(v.consumer)
		}
		if u == nil && !p.allowUnknown {
			return p.invalid(errConsumer)
		}
	}
	count.Inc()
	if u != nil {
		c.Consumer = u // else who is known by an outer plugin stays so
	}
	c.Claims = v.claims
	p.take(c, text, from)
	if len(p.asserted) > 0 {
		plugin.DiscardHeaders(c, p.asserted)
		c.Header = append(c.Header, v.headers...)
	}
	return nil
}

func (p *jwtAuth) invalid(cause error) error {
	p.refused.Inc()
	return plugin.Invalid(challengeInvalid, cause)
}

// refusal is the error of a token that could not be verified.
func (p *jwtAuth) refusal(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errUnavailable), errors.Is(err, errBusy):
		p.unavailable.Inc()
		return rpc.Refuse(codes.Unavailable, ReasonUnavailable, "the keys that check tokens are not available").WithCause(err)
	}
	return p.invalid(err)
}

func (p *jwtAuth) lacking(l lack) error {
	e := rpc.Refuse(codes.PermissionDenied, ReasonScope, "the token does not have the scope that is needed")
	header := p.challengeScope
	if l == claim {
		e.Reason, e.Message = ReasonClaim, "the token does not have the claims that are needed"
		header = challengeClaim
	}
	e.Header.Add("www-authenticate", header)
	return e
}

var (
	errUnavailable = errors.New("the key set has not been fetched, or is too old")
	errKey         = errors.New("no key has the token's kid, issuer and algorithm")
	errSignature   = errors.New("the signature does not hold")
)

// verify checks a token that is not remembered.
func (p *jwtAuth) verify(ctx context.Context, text string, now time.Time) (*verified, error) {
	t, err := readToken(text)
	if err != nil {
		return nil, err
	}
	k, err := p.signer(ctx, t, now)
	if err != nil {
		return nil, err
	}
	v, err := p.claims(t, now)
	if err != nil {
		return nil, err
	}
	v.token, v.key = text, k
	v.size = sizeOf(t, text, v.headers)
	return v, nil
}

// signer finds the key that the token is signed with: one with its kid, else one without an id. Keys are chosen by what the
// configuration says of them; what the token says is only compared.
func (p *jwtAuth) signer(ctx context.Context, t *token, now time.Time) (*key, error) {
	issuer, _, ok := t.text("iss")
	if !ok {
		return nil, errors.New(`claim "iss": wanted a string`)
	}
	fit := false
	try := func(ks []*key) *key {
		for _, k := range ks {
			if k.issuer != "" && k.issuer != issuer || k.method.Alg() != t.algorithm {
				continue
			}
			fit = true
			if k.checks(t.signed, t.signature) {
				return k
			}
		}
		return nil
	}
	if t.hasID {
		if k := try(p.keys.byID[t.id]); k != nil {
			return k, nil
		}
	}
	if k := try(p.keys.free[issuer]); k != nil {
		return k, nil
	}
	if issuer != "" {
		if k := try(p.keys.free[""]); k != nil {
			return k, nil
		}
	}
	var unknown error
	for _, s := range p.sets {
		if s.issuer != "" && s.issuer != issuer {
			continue
		}
		ks, known := s.find(t, now)
		if len(ks) == 0 && (t.hasID || !known) {
			again, err := s.await(ctx, t.id, known)
			if err != nil {
				return nil, err
			}
			if again {
				ks, known = s.find(t, p.now())
			}
		}
		if !known {
			unknown = errUnavailable
		}
		if k := try(ks); k != nil {
			return k, nil
		}
	}
	switch {
	case unknown != nil:
		return nil, unknown
	case fit:
		return nil, errSignature
	}
	return nil, errKey
}

// shown finds the token and says how often there is one at that place.
func (p *jwtAuth) shown(c *rpc.Call) (text string, from carrier, n int) {
	if p.header != "" {
		if text, n = plugin.Shown(c, p.header); n > 0 {
			bare, ok := plugin.Scheme(text, "bearer")
			switch {
			case ok:
				return bare, inHeader, n
			case p.header != "authorization":
				return text, inHeader, n
			}
		}
	}
	if p.cookie != "" {
		if text, n = plugin.CookieShown(c, p.cookie); n > 0 {
			return text, inCookie, n
		}
	}
	if p.query != "" {
		if text, n = plugin.QueryShown(c, p.query); n > 0 {
			return text, inQuery, n
		}
	}
	return "", nowhere, 0
}

// take takes tokens out of the call, and puts the one that was checked back where services are shown it: what the caller says
// in its place, under Grpc-Metadata- for instance, is not that.
func (p *jwtAuth) take(c *rpc.Call, text string, from carrier) {
	if !p.forward {
		p.Discard(c)
		return
	}
	key, value := p.header, text
	switch from {
	case inHeader:
		value, _ = plugin.Shown(c, p.header) // with its scheme
	case inCookie:
		key, value = "cookie", p.cookie+"="+text
	default:
	}
	p.Discard(c)
	if from != inQuery {
		c.Header.Add(key, value)
	}
}

// Discard implements plugin.Discarder.
func (p *jwtAuth) Discard(c *rpc.Call) {
	switch p.header {
	case "":
	case "authorization":
		plugin.DiscardScheme(c, "bearer")
	default:
		plugin.DiscardHeaders(c, p.headers)
	}
	if p.cookie != "" {
		plugin.DiscardCookie(c, p.cookie)
	}
	if p.query != "" { // it is no part of the request, also where services are shown tokens
		plugin.DiscardQuery(c, p.query)
	}
}
