package csrf

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	csrfv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/csrf/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// tokens gives tokens and looks at them. A token is when it ends, a nonce, and a signature of both and of the session: an attacker
// who can set cookies (from a host below, or without TLS) cannot make one, and his own is of another session.
type tokens struct {
	secrets [][]byte
	cookie  string
	header  string
	session string // name of the cookie; "": none
	ttl     time.Duration
	secure  *bool // nil: as the call came
	now     func() time.Time
}

const (
	minSecret  = 32
	defaultTTL = time.Hour
	maxTTL     = 7 * 24 * time.Hour
	hostPrefix = "__Host-" // browsers take such a cookie over TLS only, and from no other host

	expirySize, nonceSize = 8, 16
	payloadSize           = expirySize + nonceSize
	tokenSize             = payloadSize + sha256.Size
)

// purpose keeps the signatures apart from others that were made with the same secret.
const purpose = "causeway csrf token v1\x00"

func newTokens(conf *csrfv1.Token, now func() time.Time) (*tokens, error) {
	t := &tokens{cookie: conf.GetCookie(), header: strings.ToLower(conf.GetHeader()), session: conf.GetSessionCookie(), ttl: defaultTTL, secure: conf.Secure, now: now}
	if len(conf.GetSecrets()) == 0 {
		return nil, plugin.Faultf("token.secrets", `write a secret of 32 bytes or more: ["${CSRF_SECRET}"]`, "no secrets")
	}
	for i, s := range conf.GetSecrets() {
		if len(s) < minSecret {
			return nil, plugin.Faultf(fmt.Sprintf("token.secrets[%d]", i), "make one with: openssl rand -base64 32", "wanted 32 bytes or more, found %d", len(s))
		}
		t.secrets = append(t.secrets, []byte(s))
	}
	if t.cookie == "" {
		t.cookie = "csrf-token"
	}
	if t.header == "" {
		t.header = "x-csrf-token"
	}
	for _, k := range []struct{ key, name string }{{"token.cookie", t.cookie}, {"token.session_cookie", t.session}} {
		if !plugin.HeaderName(strings.ToLower(k.name)) && k.name != "" || strings.HasPrefix(strings.ToLower(k.name), "__host-") && k.key == "token.cookie" {
			return nil, plugin.Faultf(k.key, "write letters, digits, - and _; __Host- comes by itself", "%q is not the name of a cookie", k.name)
		}
	}
	if !plugin.HeaderName(t.header) || plugin.ReservedHeader(t.header) || t.header == "cookie" {
		return nil, plugin.Faultf("token.header", "write a name such as x-csrf-token", "%q cannot carry the token", t.header)
	}
	if conf.GetTtl() != nil {
		if t.ttl = conf.GetTtl().AsDuration(); t.ttl < time.Second || t.ttl > maxTTL {
			return nil, plugin.Faultf("token.ttl", "write a time such as 3600s", "wanted 1s to %s, found %s", maxTTL, t.ttl)
		}
	}
	return t, nil
}

// overTLS tells whether browsers reach the gateway by TLS.
func (t *tokens) overTLS(r *rpc.HTTP) bool {
	if t.secure != nil {
		return *t.secure
	}
	return r.Scheme == "https"
}

// cookieName is the name that the cookie has on a call's way.
func (t *tokens) cookieName(r *rpc.HTTP) string {
	if t.overTLS(r) {
		return hostPrefix + t.cookie
	}
	return t.cookie
}

// bound is the session that a token of this call is good in.
func (t *tokens) bound(c *rpc.Call) string {
	if t.session == "" {
		return ""
	}
	v, _ := plugin.CookieShown(c, t.session)
	return v
}

// shown tells whether the call shows one and the same good token in the header and in the cookie.
func (t *tokens) shown(c *rpc.Call) bool {
	header, n := plugin.Shown(c, t.header)
	if n != 1 {
		return false
	}
	cookie, n := plugin.CookieShown(c, t.cookieName(c.HTTP))
	if n != 1 || subtle.ConstantTimeCompare([]byte(header), []byte(cookie)) != 1 {
		return false
	}
	left, ok := t.good(header, t.bound(c))
	return ok && left > 0
}

// good tells whether a token was signed here for a session, and how long it lasts yet.
func (t *tokens) good(token, session string) (left time.Duration, ok bool) {
	var raw [tokenSize]byte
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return 0, false
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(token)); err != nil || n != tokenSize {
		return 0, false
	}
	for _, secret := range t.secrets {
		if hmac.Equal(raw[payloadSize:], sign(secret, raw[:payloadSize], session)) {
			ok = true
		}
	}
	end := time.Unix(int64(binary.BigEndian.Uint64(raw[:])), 0) //nolint:gosec // signed here
	return end.Sub(t.now()), ok
}

func sign(secret, payload []byte, session string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(purpose))
	mac.Write(payload) // of one length
	mac.Write([]byte(session))
	return mac.Sum(nil)
}

// give has the answer to a call set the cookie, unless the call has one that lasts for half of its time yet.
func (t *tokens) give(c *rpc.Call) error {
	session := t.bound(c)
	if cookie, n := plugin.CookieShown(c, t.cookieName(c.HTTP)); n == 1 {
		if left, ok := t.good(cookie, session); ok && left > t.ttl/2 {
			return nil
		}
	}
	var raw [tokenSize]byte
	binary.BigEndian.PutUint64(raw[:], uint64(t.now().Add(t.ttl).Unix())) //nolint:gosec // after 1970
	if _, err := rand.Read(raw[expirySize:payloadSize]); err != nil {
		return err
	}
	copy(raw[payloadSize:], sign(t.secrets[0], raw[:payloadSize], session))
	value := t.cookieName(c.HTTP) + "=" + base64.RawURLEncoding.EncodeToString(raw[:]) +
		"; Path=/; Max-Age=" + strconv.FormatInt(int64(t.ttl/time.Second), 10) + "; SameSite=Lax"
	if t.overTLS(c.HTTP) {
		value += "; Secure"
	}
	c.HTTP.Answer.Add("set-cookie", value)
	c.HTTP.Answer.Add("vary", "cookie")
	return nil
}
