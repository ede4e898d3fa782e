// Package basicauth is the plugin basic_auth: it knows consumers by name and password.
package basicauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	basicauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/basicauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:       "basic_auth",
	Config:     func() proto.Message { return new(basicauthv1.BasicAuth) },
	Credential: func() proto.Message { return new(basicauthv1.Credential) },
	New:        newPlugin,
}

// ReasonOverloaded is that of a call for whose password there was no time.
const ReasonOverloaded = "OVERLOADED"

const (
	maxName     = 256 // bytes of a name
	maxPassword = 1024
	maxShown    = 2048  // bytes of what is decoded
	remembered  = 10000 // passwords that were right
	maxQueue    = 200   // calls that wait for a hash to be computed, for each that is
	maxTogether = 64
)

// basicAuth never changes once made, but for what it remembers.
type basicAuth struct {
	forward   bool
	challenge string

	users map[string]*user
	// others stand in for users that there are not: each name has one of them, of a cost that users have, as often as they
	// have it. Who tries names out sees times as of users.
	others []*user
	seed   maphash.Seed

	secret [32]byte // of this plugin: what is remembered is worth nothing elsewhere
	mu     sync.Mutex
	known  *simplelru.LRU[digest, *user] // by name and password

	slots   chan struct{} // one for each hash that may be computed at one moment
	queue   atomic.Int64
	waiting int64 // at most
	hashed  atomic.Int64

	accepted, refused, missing, overloaded *telemetry.Counter
}

type digest [sha256.Size]byte

// user is somebody with a password.
type user struct {
	consumer *rpc.Consumer
	hash     hash   // nil: the password was given itself
	plain    digest // of the password that was given itself
	never    bool   // nobody
}

var (
	_ plugin.Authenticator = (*basicAuth)(nil)
	_ plugin.Discarder     = (*basicAuth)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*basicauthv1.BasicAuth)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	realm := conf.GetRealm()
	if realm == "" {
		realm = "causeway"
	}
	if !plugin.Printable(realm) || strings.ContainsAny(realm, `"\`) {
		return nil, plugin.Faultf("realm", "write letters, digits and spaces", "wanted printable ascii without quotes, found %q", realm)
	}
	together := int(conf.GetConcurrency())
	switch {
	case together < 0 || together > maxTogether:
		return nil, plugin.Faultf("concurrency", "write 2", "wanted at most %d, found %d", maxTogether, together)
	case together == 0:
		together = max(1, runtime.GOMAXPROCS(0)/2)
	}
	p := &basicAuth{
		forward: conf.GetForward(), challenge: `Basic realm="` + realm + `", charset="UTF-8"`,
		users: make(map[string]*user, len(env.Credentials)), seed: maphash.MakeSeed(),
		slots: make(chan struct{}, together), waiting: int64(together) * maxQueue,
	}
	if _, err := rand.Read(p.secret[:]); err != nil {
		return nil, err
	}
	for i := range env.Credentials {
		if err := p.add(&env.Credentials[i]); err != nil {
			return nil, err
		}
	}
	if len(p.others) == 0 { // nobody is known: a name costs a digest, as with passwords that are given themselves
		p.others = []*user{{never: true}}
	}
	var err error
	if p.known, err = simplelru.NewLRU[digest, *user](remembered, nil); err != nil {
		return nil, err
	}
	calls, err := env.Meter.Counter("causeway_basic_auth_total", "", "Calls that basic_auth looked at, by result.", "result")
	if err != nil {
		return nil, err
	}
	p.accepted, p.refused = calls.With("accepted"), calls.With("refused")
	p.missing, p.overloaded = calls.With("missing"), calls.With("overloaded")
	return p, nil
}

// add takes a consumer's name and password in.
func (p *basicAuth) add(cred *plugin.Credential) error {
	conf, ok := cred.Config.(*basicauthv1.Credential)
	if !ok {
		return fmt.Errorf("want a credential of type %T, found %T", conf, cred.Config)
	}
	name := conf.GetUsername()
	switch {
	case name == "":
		return plugin.Faultf(cred.Path+".username", "add username: NAME", "a credential without a name")
	case len(name) > maxName || strings.ContainsAny(name, ":\x00\r\n"):
		return plugin.Faultf(cred.Path+".username", "choose another", "wanted a name without a colon and line ends, of at most %d bytes", maxName)
	case p.users[name] != nil:
		return plugin.Faultf(cred.Path+".username", "give each its own", "the name %q is consumer %q's already", name, p.users[name].consumer.Name)
	}
	u := &user{consumer: cred.Consumer}
	other := &user{never: true}
	switch text, password := conf.GetPasswordHash(), conf.GetPassword(); {
	case text != "" && password != "":
		return plugin.Faultf(cred.Path, "remove one of them", "both `password_hash` and `password`")
	case text != "":
		var err error
		if u.hash, err = readHash(text); err != nil {
			return plugin.Faultf(cred.Path+".password_hash", "make one with: htpasswd -nBC 10 NAME, or argon2 SALT -id -e", "%s", err)
		}
		other.hash = u.hash.dummy()
	case password != "":
		if len(password) > maxPassword {
			return plugin.Faultf(cred.Path+".password", "choose a shorter one", "wanted at most %d bytes", maxPassword)
		}
		u.plain = p.digest(name, password)
	default:
		return plugin.Faultf(cred.Path, "add `password_hash` or `password`", "a credential without a password")
	}
	p.users[name] = u
	p.others = append(p.others, other)
	return nil
}

// digest of a name and a password: who does not know the plugin's secret can find neither.
func (p *basicAuth) digest(name, password string) digest {
	var room [512]byte
	b := append(room[:0], p.secret[:]...)
	b = append(b, byte(len(name)>>8), byte(len(name))) //nolint:gosec // at most maxName, else the two bytes of it
	b = append(b, name...)
	b = append(b, password...)
	return sha256.Sum256(b)
}

// Wrap implements plugin.Plugin.
func (p *basicAuth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(p, next) }

var (
	errTwice    = errors.New("more than one Authorization was shown")
	errForm     = errors.New("wanted base64 of NAME:PASSWORD")
	errTooLong  = errors.New("the name or the password is too long")
	errPassword = errors.New("no consumer has that name and password")
	errQueue    = errors.New("too many passwords wait to be hashed")
)

// Authenticate implements plugin.Authenticator.
func (p *basicAuth) Authenticate(ctx context.Context, c *rpc.Call) error {
	value, n := plugin.Shown(c, "authorization")
	encoded, ok := plugin.Scheme(value, "basic")
	if !ok {
		p.missing.Inc()
		return plugin.Missing(p.challenge)
	}
	if n > 1 {
		return p.invalid(errTwice)
	}
	if len(encoded) > maxShown {
		return p.invalid(errTooLong)
	}
	var room [maxShown]byte
	size, err := base64.StdEncoding.Strict().Decode(room[:], append(make([]byte, 0, maxShown), encoded...))
	if err != nil {
		return p.invalid(errForm)
	}
	name, password, ok := strings.Cut(string(room[:size]), ":")
	if !ok {
		return p.invalid(errForm)
	}
	if len(name) > maxName || len(password) > maxPassword {
		return p.invalid(errTooLong)
	}
	u, err := p.check(ctx, name, password)
	switch {
	case errors.Is(err, errQueue):
		p.overloaded.Inc()
		return rpc.Refuse(codes.Unavailable, ReasonOverloaded, "too many passwords are being checked: try again later").WithCause(err)
	case err != nil:
		return err // the call has ended
	case u == nil:
		return p.invalid(errPassword)
	}
	p.accepted.Inc()
	c.Consumer = u.consumer
	p.Discard(c)
	if p.forward { // what was checked, and nothing that came in beside it
		c.Header.Add("authorization", value)
	}
	return nil
}

func (p *basicAuth) invalid(cause error) error {
	p.refused.Inc()
	return plugin.Invalid(p.challenge, cause)
}

// check returns who has the name and the password; nil: nobody.
func (p *basicAuth) check(ctx context.Context, name, password string) (*user, error) {
	d := p.digest(name, password)
	p.mu.Lock()
	u, ok := p.known.Get(d)
	p.mu.Unlock()
	if ok {
		return u, nil
	}
	// A name that there is not goes the same way.
	other := p.others[p.place(name)]
	if u = p.users[name]; u == nil {
		u = other
	}
	if u.hash == nil {
		if subtle.ConstantTimeCompare(d[:], u.plain[:]) == 1 && !u.never {
			return u, nil
		}
		return nil, nil
	}
	ok, err := p.hash(ctx, u.hash, password)
	if err != nil || !ok || u.never {
		return nil, err
	}
	p.mu.Lock()
	p.known.Add(d, u)
	p.mu.Unlock()
	return u, nil
}

// place is where a name stands among the others.
func (p *basicAuth) place(name string) uint64 {
	return maphash.String(p.seed, name) % uint64(len(p.others))
}

// hash computes a password's hash when it is its turn.
func (p *basicAuth) hash(ctx context.Context, h hash, password string) (bool, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		if p.queue.Add(1) > p.waiting {
			p.queue.Add(-1)
			return false, errQueue
		}
		defer p.queue.Add(-1)
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	defer func() { <-p.slots }()
	if ctx.Err() != nil { // nobody waits for it any more
		return false, ctx.Err()
	}
	p.hashed.Add(1)
	return h.matches([]byte(password)), nil
}

// Discard implements plugin.Discarder.
func (p *basicAuth) Discard(c *rpc.Call) { plugin.DiscardScheme(c, "basic") }
