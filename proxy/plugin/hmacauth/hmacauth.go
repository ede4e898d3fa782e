// Package hmacauth is the plugin hmac_auth: consumers are known by signatures over their requests (RFC 9421 with hmac-sha256),
// which nobody can change on the way (RFC 9530 digests) nor send again.
package hmacauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	hmacauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/hmacauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:       "hmac_auth",
	Config:     func() proto.Message { return new(hmacauthv1.HMACAuth) },
	Credential: func() proto.Message { return new(hmacauthv1.Credential) },
	New:        newPlugin,
}

const (
	defaultWindow  = 300 * time.Second
	maxWindow      = time.Hour
	minSecret      = 32
	defaultEntries = 1_000_000
	maxEntries     = 100_000_000
	challenge      = "Signature"
)

// auth never changes once made; its nonces do, and outlive it.
type auth struct {
	env        plugin.Env
	window     time.Duration
	components []string // what has to be covered
	body       bool     // has to be covered
	keys       map[string]key
	once       nonces // nil: requests may come again
}

type key struct {
	consumer *rpc.Consumer
	secret   []byte
}

var (
	_ plugin.Authenticator = (*auth)(nil)
	_ plugin.Discarder     = (*auth)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*hmacauthv1.HMACAuth)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	a := &auth{env: env, window: defaultWindow, body: conf.GetBody() != hmacauthv1.Body_BODY_OPTIONAL, keys: map[string]key{}}
	if w := conf.GetWindow(); w != nil {
		if a.window = w.AsDuration(); a.window <= 0 || a.window > maxWindow {
			return nil, plugin.Faultf("window", "write 1s to 3600s", "wanted a time up to 3600s, found %s", a.window)
		}
	}
	a.components = []string{"@method", "@path", "@query"}
	for i, c := range conf.GetComponents() {
		if c == "@signature-params" || c[:min(1, len(c))] == "@" && !slices.Contains(derived, c) || !component.MatchString(c) {
			return nil, plugin.Faultf(fmt.Sprintf("components[%d]", i), "write a header's name in lower case, @authority or @scheme", "%q is no component of a signature", c)
		}
		a.components = append(a.components, c)
	}
	if err := a.credentials(env.Credentials); err != nil {
		return nil, err
	}
	if err := a.nonces(conf.GetReplay()); err != nil {
		return nil, err
	}
	return a, nil
}

var component = regexp.MustCompile("^@?[a-z0-9!#$%&'*+.^_`|~-]+$")

func (a *auth) credentials(creds []plugin.Credential) error {
	for _, c := range creds {
		conf, ok := c.Config.(*hmacauthv1.Credential)
		if !ok {
			return fmt.Errorf("want a credential of type %T, found %T", conf, c.Config)
		}
		switch {
		case conf.GetKeyId() == "":
			return plugin.Faultf(c.Path+".key_id", "write what signatures call the key", "no key_id")
		case len(conf.GetSecret()) < minSecret:
			return plugin.Faultf(c.Path+".secret", "make one: openssl rand -base64 48", "wanted at least %d bytes, found %d", minSecret, len(conf.GetSecret()))
		}
		if other, ok := a.keys[conf.GetKeyId()]; ok {
			return plugin.Faultf(c.Path+".key_id", "give each key its own", "%q is a key of consumer %s already", conf.GetKeyId(), other.consumer.Name)
		}
		a.keys[conf.GetKeyId()] = key{c.Consumer, []byte(conf.GetSecret())}
	}
	return nil
}

func (a *auth) nonces(conf *hmacauthv1.Replay) error {
	if conf.GetOff() {
		return nil
	}
	most := conf.GetEntries()
	switch {
	case most == 0:
		most = defaultEntries
	case most < 0 || most > maxEntries:
		return plugin.Faultf("replay.entries", "write 1 to 100000000", "wanted up to %d, found %d", maxEntries, most)
	}
	own, err := plugin.StateOf(a.env, fmt.Sprint("nonces ", most), func() (*memory, error) { return &memory{most: int(most), now: a.env.Now}, nil })
	if err != nil {
		return err
	}
	a.once = own
	if conf.GetStore() == "" {
		return nil
	}
	store, err := a.env.Store(conf.GetStore())
	if err != nil {
		return plugin.Faultf("replay.store", "name a store of the configuration", "%s", err)
	}
	a.once = &shared{store: store, own: own, local: conf.GetOnError() == hmacauthv1.OnError_ON_ERROR_LOCAL}
	return nil
}

// Wrap implements plugin.Plugin.
func (a *auth) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(a, next) }

// WithoutHTTP implements plugin.HTTPReader.
func (*auth) WithoutHTTP(*schema.Method) (why string) {
	return "signatures are of requests by HTTP"
}

// RequestHeaders implements plugin.Scripted.
func (a *auth) RequestHeaders() []string { return signatureHeaders }

var signatureHeaders = []string{"signature", "signature-input", "content-digest"}

// Discard implements plugin.Discarder.
func (a *auth) Discard(c *rpc.Call) {
	plugin.DiscardHeaders(c, signatureHeaders)
}

// The causes of refusals, for logs.
var (
	errKey      = errors.New("the key is not known")
	errMismatch = errors.New("the signature is not the request's")
	errAgain    = errors.New("the request was sent before")
)

// nobody's secret is used where the key is not known, so that time does not tell.
var nobodys = make([]byte, minSecret)

// Authenticate implements plugin.Authenticator.
func (a *auth) Authenticate(ctx context.Context, c *rpc.Call) error {
	if c.HTTP == nil || !c.HTTP.Header.Has("signature") && !c.HTTP.Header.Has("signature-input") {
		return plugin.Missing(challenge)
	}
	s, err := parse(c.HTTP.Header)
	if err == nil {
		err = a.look(s)
	}
	if err != nil {
		return plugin.Invalid(challenge, err)
	}
	base, err := s.base(c.HTTP)
	if err != nil {
		return plugin.Invalid(challenge, err)
	}
	k, known := a.keys[s.key]
	if !known {
		k.secret = nobodys
	}
	mac := hmac.New(sha256.New, k.secret)
	_, _ = mac.Write(base)
	switch {
	case !hmac.Equal(mac.Sum(nil), s.mac) && known:
		return plugin.Invalid(challenge, errMismatch)
	case !known:
		return plugin.Invalid(challenge, errKey)
	}
	if err := a.digest(ctx, c, s); err != nil {
		return err
	}
	if a.once != nil {
		// Only what is proven is kept: nobody else can fill the memory.
		fresh, err := a.once.first(ctx, s.key, s.nonce, 2*a.window)
		if err != nil {
			return err
		}
		if !fresh {
			return plugin.Invalid(challenge, errAgain)
		}
	}
	a.Discard(c)
	c.Consumer = k.consumer
	return nil
}

// look checks what a signature says of itself.
func (a *auth) look(s *signature) error {
	now := a.env.Now()
	switch {
	case s.algorithm != "" && s.algorithm != "hmac-sha256":
		return fmt.Errorf("the algorithm is %q, wanted hmac-sha256", s.algorithm)
	case s.created.IsZero():
		return errors.New("the signature has no `created`")
	case now.Sub(s.created) > a.window || s.created.Sub(now) > a.window:
		return fmt.Errorf("the signature is of %s, and now is %s", s.created.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !s.expires.IsZero() && !now.Before(s.expires):
		return fmt.Errorf("the signature ended at %s", s.expires.UTC().Format(time.RFC3339))
	case a.once != nil && s.nonce == "":
		return errors.New("the signature has no `nonce`")
	}
	for _, name := range a.components {
		if !slices.Contains(s.components, name) {
			return fmt.Errorf("the signature does not cover %s", name)
		}
	}
	return nil
}
