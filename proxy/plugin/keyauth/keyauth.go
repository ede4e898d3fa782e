// Package keyauth is the plugin key_auth: it knows consumers by a key that they show.
package keyauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	keyauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/keyauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:       "key_auth",
	Config:     func() proto.Message { return new(keyauthv1.KeyAuth) },
	Credential: func() proto.Message { return new(keyauthv1.Credential) },
	New:        newPlugin,
}

const (
	defaultHeader = "x-api-key"
	challenge     = `ApiKey realm="causeway"`
	minKey        = 8    // bytes of a key: fewer can be tried out
	maxKey        = 4096 // bytes of what is looked at
)

// keyAuth never changes once made.
type keyAuth struct {
	headers       []string // the one header
	authorization bool
	query         string
	forward       bool
	// byDigest finds a consumer by the SHA-256 of its key: how long that takes tells nothing of the keys.
	byDigest                   map[digest]*rpc.Consumer
	accepted, refused, missing *telemetry.Counter
}

// RequestHeaders implements plugin.Scripted.
func (p *keyAuth) RequestHeaders() []string { return p.headers }

type digest [sha256.Size]byte

var (
	_ plugin.Authenticator = (*keyAuth)(nil)
	_ plugin.Discarder     = (*keyAuth)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*keyauthv1.KeyAuth)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	header := strings.ToLower(conf.GetHeader())
	if header == "" {
		header = defaultHeader
	}
	if fault := plugin.CheckCarrier("header", header); fault != nil {
		return nil, fault
	}
	if header == "authorization" {
		return nil, plugin.Faultf("header", "write authorization: true", "keys in Authorization have a scheme before them")
	}
	p := &keyAuth{
		headers: []string{header}, authorization: conf.GetAuthorization(), query: conf.GetQuery(), forward: conf.GetForward(),
		byDigest: make(map[digest]*rpc.Consumer, len(env.Credentials)),
	}
	for i := range env.Credentials {
		if err := p.add(&env.Credentials[i]); err != nil {
			return nil, err
		}
	}
	calls, err := env.Meter.Counter("causeway_key_auth_total", "", "Calls that key_auth looked at, by result.", "result")
	if err != nil {
		return nil, err
	}
	p.accepted, p.refused, p.missing = calls.With("accepted"), calls.With("refused"), calls.With("missing")
	return p, nil
}

// add takes a consumer's key in.
func (p *keyAuth) add(cred *plugin.Credential) error {
	conf, ok := cred.Config.(*keyauthv1.Credential)
	if !ok {
		return fmt.Errorf("want a credential of type %T, found %T", conf, cred.Config)
	}
	var d digest
	switch key, sum := conf.GetKey(), conf.GetKeySha256(); {
	case key != "" && sum != "":
		return plugin.Faultf(cred.Path, "remove one of them", "both `key` and `key_sha256`")
	case key != "":
		if len(key) < minKey {
			return plugin.Faultf(cred.Path+".key", "make one with: openssl rand -hex 32", "a key of fewer than %d characters can be guessed", minKey)
		}
		if len(key) > maxKey || !plugin.Printable(key) {
			return plugin.Faultf(cred.Path+".key", "make one with: openssl rand -hex 32", "wanted printable ascii without spaces around it, at most %d characters", maxKey)
		}
		d = sha256.Sum256([]byte(key))
	case sum != "":
		b, err := hex.DecodeString(sum)
		if err != nil || len(b) != len(d) {
			return plugin.Faultf(cred.Path+".key_sha256", "make it with: printf %s KEY | sha256sum", "wanted %d hexadecimal digits", 2*len(d))
		}
		d = digest(b)
	default:
		return plugin.Faultf(cred.Path, "add `key` or `key_sha256`", "a credential without a key")
	}
	if other := p.byDigest[d]; other != nil {
		return plugin.Faultf(cred.Path, "give each its own", "the key is consumer %q's already", other.Name)
	}
	p.byDigest[d] = cred.Consumer
	return nil
}

// Wrap implements plugin.Plugin.
func (p *keyAuth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(p, next) }

// carrier is where a call shows its key.
type carrier uint8

const (
	nowhere carrier = iota
	inHeader
	inAuthorization
	inQuery
)

var (
	errTwice   = errors.New("more than one key was shown")
	errTooLong = errors.New("the key is too long")
	errUnknown = errors.New("no consumer has the key")
)

// Authenticate implements plugin.Authenticator.
func (p *keyAuth) Authenticate(_ context.Context, c *rpc.Call) error {
	key, from, n := p.shown(c)
	var cause error
	switch {
	case from == nowhere:
		p.missing.Inc()
		return plugin.Missing(challenge)
	case n > 1:
		cause = errTwice
	case len(key) > maxKey:
		cause = errTooLong
	default:
		if u := p.byDigest[sum(key)]; u != nil {
			p.accepted.Inc()
			c.Consumer = u
			p.take(c, key, from)
			return nil
		}
		cause = errUnknown
	}
	p.refused.Inc()
	return plugin.Invalid(challenge, cause)
}

// sum is the digest of a key, made on the stack for keys of a usual length.
func sum(key string) digest {
	var small [128]byte
	return sha256.Sum256(append(small[:0], key...))
}

// shown finds the key and says how often there is one at that place.
func (p *keyAuth) shown(c *rpc.Call) (key string, from carrier, n int) {
	if key, n = plugin.Shown(c, p.headers[0]); n > 0 {
		return key, inHeader, n
	}
	if p.authorization {
		value, n := plugin.Shown(c, "authorization")
		if key, ok := keyOf(value); ok {
			return key, inAuthorization, n
		}
	}
	if p.query != "" {
		if key, n = plugin.QueryShown(c, p.query); n > 0 {
			return key, inQuery, n
		}
	}
	return "", nowhere, 0
}

func keyOf(authorization string) (string, bool) {
	key, ok := plugin.Scheme(authorization, "bearer")
	if !ok {
		key, ok = plugin.Scheme(authorization, "apikey")
	}
	return key, ok
}

// take takes keys out of the call, and puts the one that was checked back where services are shown it: what the caller says
// in its place, under Grpc-Metadata- for instance, is not that.
func (p *keyAuth) take(c *rpc.Call, key string, from carrier) {
	header := p.headers[0]
	if from == inAuthorization {
		header = "authorization"
		key, _ = plugin.Shown(c, header) // with its scheme
	}
	p.Discard(c)
	if p.forward && from != inQuery {
		c.Header.Add(header, key)
	}
}

// Discard implements plugin.Discarder.
func (p *keyAuth) Discard(c *rpc.Call) {
	plugin.DiscardHeaders(c, p.headers)
	if p.authorization {
		plugin.DiscardScheme(c, "bearer")
		plugin.DiscardScheme(c, "apikey")
	}
	if p.query != "" { // it is no part of the request, also where services are shown keys
		plugin.DiscardQuery(c, p.query)
	}
}
