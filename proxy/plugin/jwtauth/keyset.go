package jwtauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	jwtauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/jwtauth/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// What a key set takes.
const (
	defaultRefresh = 5 * time.Minute
	minRefresh     = 30 * time.Second
	maxRefresh     = 24 * time.Hour
	defaultKeep    = 24 * time.Hour
	maxKeep        = 7 * 24 * time.Hour
	firstRetry     = time.Second
	lastRetry      = 30 * time.Second
	askEvery       = 30 * time.Second // an unknown `kid` has the set fetched no more often
	maxUnknown     = 1000             // `kid`s that are known to be in no set
	maxWaiting     = 1024             // calls that wait for a fetch
	maxSetBytes    = 1 << 20
	fetchTime      = 2 * time.Second
)

// keySet is a set of keys that a server publishes, fetched again and again by a goroutine of its own until Close. Calls
// read it without a lock.
type keySet struct {
	url, openid string
	issuer      string   // "": any
	algorithms  []string // nil: all
	refresh     time.Duration
	keep        time.Duration

	fetch        plugin.Fetcher
	now          func() time.Time
	log          *slog.Logger
	good, failed *telemetry.Counter

	ring  atomic.Pointer[ring] // nil: never fetched
	asked chan struct{}        // wakes the goroutine
	end   context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	flight  chan struct{} // closed at the end of the fetch that runs, or is about to; nil: none
	lastAsk time.Time     // of a call for an unknown `kid`
	unknown map[string]struct{}
	waiting int
	closed  bool
}

// ring is the set as it was last fetched; it never changes.
type ring struct {
	byID  map[string][]*key
	all   []*key
	until time.Time // when it is too old
}

// fresh tells whether what the set says still counts.
func (s *keySet) fresh(now time.Time) bool {
	r := s.ring.Load()
	return r != nil && now.Before(r.until)
}

// newKeySet starts to fetch a set. It does not wait for it.
func newKeySet(path string, conf *jwtauthv1.KeySet, env plugin.Env) (*keySet, error) {
	s := &keySet{
		url: conf.GetUrl(), openid: conf.GetOpenid(), issuer: conf.GetIssuer(), algorithms: conf.GetAlgorithms(),
		refresh: defaultRefresh, keep: defaultKeep,
		fetch: env.Fetch, now: env.Now, log: env.Log,
		asked: make(chan struct{}, 1), ended: make(chan struct{}), flight: make(chan struct{}), unknown: map[string]struct{}{},
	}
	at, address := path+".url", s.url
	if s.openid != "" {
		at, address = path+".openid", s.openid
		if s.issuer != "" {
			return nil, plugin.Faultf(path+".issuer", "remove it", "the issuer is the one of `openid`")
		}
		s.issuer = s.openid
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, plugin.Faultf(at, "write https://HOST/PATH", "wanted the URL of a key set or of its issuer")
	} else if u.Scheme == "http" {
		env.Log.Warn("a key set is fetched without TLS: who is between can sign tokens", "url", u.Scheme+"://"+u.Host+u.EscapedPath())
	}
	for i, a := range s.algorithms {
		if methodOf(a) == nil || strings.HasPrefix(a, "HS") {
			return nil, plugin.Faultf(fmt.Sprintf("%s.algorithms[%d]", path, i), "name one of: "+strings.Join(algorithms[3:], ", "), "%q is not an algorithm of published keys", a)
		}
	}
	if d := conf.GetRefresh(); d != nil {
		if s.refresh = d.AsDuration(); s.refresh < minRefresh || s.refresh > maxRefresh {
			return nil, plugin.Faultf(path+".refresh", "write 300s", "wanted %s to %s, found %s", minRefresh, maxRefresh, s.refresh)
		}
	}
	if d := conf.GetKeep(); d != nil {
		if s.keep = d.AsDuration(); s.keep < s.refresh || s.keep > maxKeep {
			return nil, plugin.Faultf(path+".keep", "write 24h", "wanted `refresh` (%s) to %s, found %s", s.refresh, maxKeep, s.keep)
		}
	}
	if s.fetch == nil {
		return nil, plugin.Faultf(path, "give the keys themselves, in `keys`", "this gateway fetches nothing")
	}
	fetches, err := env.Meter.Counter("causeway_jwt_auth_key_set_fetches_total", "", "Fetches of key sets by jwt_auth, by result.", "result")
	if err != nil {
		return nil, err
	}
	s.good, s.failed = fetches.With("ok"), fetches.With("failed")
	return s, nil
}

// start starts the goroutine.
func (s *keySet) start() {
	ctx, end := context.WithCancel(context.Background()) // it ends with Close
	s.end = end
	go s.run(ctx)
}

// Close ends the goroutine. Who waits for a fetch is told that there is none.
func (s *keySet) Close() error {
	s.end()
	<-s.ended
	return nil
}

// run fetches the set when it is time, and when it is asked to.
func (s *keySet) run(ctx context.Context) {
	defer close(s.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for retry := firstRetry; ; {
		err := s.update(ctx)
		if ctx.Err() != nil {
			s.landed(true)
			return
		}
		wait := s.refresh
		if err != nil {
			s.failed.Inc()
			s.log.Error("a key set was not fetched: the last one stays in use", "error", err)
			wait = min(retry, s.refresh)
			retry = min(2*retry, lastRetry)
		} else {
			s.good.Inc()
			retry = firstRetry
		}
		s.landed(false)
		// Gateways that began together do not ask together.
		timer.Reset(wait - time.Duration(rand.Int64N(int64(wait)/10+1))) //nolint:gosec // load is spread at random
		select {
		case <-timer.C:
		case <-s.asked:
		case <-ctx.Done():
			s.landed(true)
			return
		}
		s.mu.Lock()
		if s.flight == nil {
			s.flight = make(chan struct{})
		}
		select { // what asked meanwhile is served by this fetch
		case <-s.asked:
		default:
		}
		s.mu.Unlock()
	}
}

// landed tells those who wait that the fetch is over.
func (s *keySet) landed(closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = closed
	if s.flight != nil {
		close(s.flight)
		s.flight = nil
	}
}

// update fetches the set and puts it into force.
func (s *keySet) update(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("panic while a key set was fetched", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	at := s.url
	if s.openid != "" {
		if at, err = s.discover(ctx); err != nil {
			return err
		}
	}
	body, err := s.get(ctx, at)
	if err != nil {
		return err
	}
	ks, skipped, err := readSet(body, s.algorithms)
	if err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	s.install(ks)
	if len(ks) == 0 || skipped > 0 {
		s.log.Warn("a key set has keys that cannot be used", "used", len(ks), "passed_over", skipped)
	}
	return nil
}

func (s *keySet) get(ctx context.Context, at string) ([]byte, error) {
	resp, err := s.fetch.Fetch(ctx, &plugin.FetchRequest{URL: at, Timeout: fetchTime, MaxBytes: maxSetBytes})
	if err != nil {
		return nil, err
	}
	if resp.Status != 200 {
		return nil, fmt.Errorf("wanted status 200, found %d", resp.Status)
	}
	return resp.Body, nil
}

// discover asks the issuer where its keys are (https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig).
func (s *keySet) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, strings.TrimSuffix(s.openid, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	doc, _, err := readObject(body)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	if doc["issuer"] != s.openid {
		return "", errors.New("discovery: the issuer is another than was asked")
	}
	at, _ := doc["jwks_uri"].(string)
	if at == "" || strings.HasPrefix(s.openid, "https:") && !strings.HasPrefix(at, "https:") {
		return "", errors.New("discovery: wanted a jwks_uri with https")
	}
	return at, nil
}

// install puts keys into force. Those that were there before stay the same, so that tokens they signed stay known; those
// that are not there any more are good for nothing from here on.
func (s *keySet) install(ks []*key) {
	next := &ring{byID: make(map[string][]*key, len(ks)), until: s.now().Add(s.keep)}
	prev := s.ring.Load()
	former := map[string]*key{}
	if prev != nil {
		for _, k := range prev.all {
			former[k.print] = k
		}
	}
	seen := map[string]bool{}
	for _, k := range ks {
		if seen[k.print] {
			continue
		}
		seen[k.print] = true
		if old := former[k.print]; old != nil {
			k = old
		}
		k.set, k.issuer = s, s.issuer
		next.all = append(next.all, k)
		if k.id != "" {
			next.byID[k.id] = append(next.byID[k.id], k)
		}
	}
	s.ring.Store(next)
	for print, k := range former {
		if !seen[print] {
			k.gone.Store(true)
		}
	}
	s.mu.Lock()
	clear(s.unknown)
	s.mu.Unlock()
}

// find returns the keys that a token may be signed with; known is false where the set has not been fetched, or is too old.
func (s *keySet) find(t *token, now time.Time) (ks []*key, known bool) {
	r := s.ring.Load()
	if r == nil || !now.Before(r.until) {
		return nil, false
	}
	if t.hasID {
		return r.byID[t.id], true
	}
	// Without a kid there must be nothing to choose.
	var one []*key
	for _, k := range r.all {
		if k.method.Alg() == t.algorithm {
			one = append(one, k)
		}
	}
	if len(one) != 1 {
		return nil, true
	}
	return one, true
}

// await has the set fetched for a `kid` that it does not have, or waits for the fetch that runs. It tells whether it is
// worth looking again. Whatever callers send, the server is asked once in askEvery for that.
func (s *keySet) await(ctx context.Context, id string, known bool) (again bool, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false, nil
	}
	own := false
	if s.flight == nil {
		_, missing := s.unknown[id]
		now := s.now()
		if missing || !s.lastAsk.IsZero() && now.Sub(s.lastAsk) < askEvery {
			s.mu.Unlock()
			return false, nil
		}
		s.lastAsk, own = now, true
		s.flight = make(chan struct{})
		select {
		case s.asked <- struct{}{}:
		default:
		}
	}
	if s.waiting >= maxWaiting {
		s.mu.Unlock()
		return false, errBusy
	}
	flight := s.flight
	s.waiting++
	s.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	if r := s.ring.Load(); err == nil && own && known && r != nil && r.byID[id] == nil && len(s.unknown) < maxUnknown {
		s.unknown[strings.Clone(id)] = struct{}{} // it is a part of a token
	}
	return err == nil, err
}

var errBusy = errors.New("too many calls wait for the key set")
