// Package store runs scripts on a Redis server, or on a cluster, that gateways share. It is the only home of the client
// library.
//
// # A server that is slow or gone
//
// Calls wait for it no longer than the configured time. The first command that is not answered in time, or whose connection
// breaks, counts the server as gone: from then on every command fails at once, while one goroutine asks whether it is back.
// It counts as back when it answers within that time again. Nothing is queued meanwhile, and nothing is tried twice. Only the
// commands that come before the server was asked for the first time wait for what becomes of that, for as long as any may take.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// Options open a store.
type Options struct {
	Name  string // as the configuration calls it
	Redis *configv1.Redis
	TLS   *tls.Config // nil: plain text
	Meter *telemetry.Meter
	Log   *slog.Logger
}

// Store is a Redis server, or a cluster. It may be used by many goroutines.
type Store struct {
	opts    Options
	timeout time.Duration
	scripts sync.Map // *plugin.Script -> *redis.Script
	live    atomic.Pointer[client]
	asked   chan struct{} // closed when the server was asked for the first time, whatever it said

	up      *telemetry.Gauge
	failed  *telemetry.CounterVec
	life    context.Context
	end     context.CancelFunc
	mu      sync.Mutex
	asking  bool // a goroutine asks whether the server is back
	closed  bool
	running sync.WaitGroup
}

// client is the library's client; a new one for each time that the server is back, so that no dead connection is used.
type client struct {
	redis.Scripter
	io.Closer
	ping func(ctx context.Context) error // of every server that takes writes
}

var (
	errGone    = errors.New("the store is gone; it is asked whether it is back")
	errTooMany = errors.New("too many commands are on their way to the store")
)

// The results that failures are counted by.
const (
	failedGone    = "gone"    // it was known to be
	failedTimeout = "timeout" // the command that found out, or one of those beside it
	failedBroken  = "broken"  // the connection, or the server is not ready
	failedBusy    = "busy"    // too many commands at once
	failedScript  = "script"  // the server refused the script
)

// Open makes a store. It does not wait for the server.
func Open(o Options) (*Store, error) {
	silence()
	s := &Store{opts: o, timeout: o.Redis.GetTimeout().AsDuration(), asked: make(chan struct{})}
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	up, err := o.Meter.Gauge("causeway_store_up", "", "1 while the store answers in time.", "store")
	if err != nil {
		return nil, err
	}
	if s.failed, err = o.Meter.Counter("causeway_store_errors_total", "", "Commands that failed, by the reason.", "store", "reason"); err != nil {
		return nil, err
	}
	s.up = up.With(o.Name)
	s.up.Set(0)
	s.life, s.end = context.WithCancel(context.Background())
	s.ask()
	return s, nil
}

const defaultTimeout = 20 * time.Millisecond

// silence keeps the library from writing to standard error by itself: what it has to say comes back as errors.
var silence = sync.OnceFunc(func() { redis.SetLogger(nothing{}) })

type nothing struct{}

// Printf implements the library's logger.
func (nothing) Printf(context.Context, string, ...any) {}

// Bounds of the connections to one server. The two times are for what nobody's call waits for; a store whose own is longer
// has that.
const (
	poolSize    = 64
	idleConns   = 2
	dialTimeout = 500 * time.Millisecond
	pingTimeout = 600 * time.Millisecond
)

func (s *Store) dial() *client {
	conf := s.opts.Redis
	dialing, waiting := max(dialTimeout, s.timeout), max(pingTimeout, s.timeout)
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if len(conf.GetAddresses()) > 1 {
		c := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: conf.GetAddresses(), Username: conf.GetUsername(), Password: conf.GetPassword(), TLSConfig: s.opts.TLS,
			Protocol: 2, MaxRetries: -1, MaxRedirects: 2, DialTimeout: dialing, DialerRetries: 1,
			ReadTimeout: waiting, WriteTimeout: waiting, ContextTimeoutEnabled: true,
			PoolSize: poolSize, MaxActiveConns: poolSize, PoolTimeout: s.timeout / 2, MinIdleConns: idleConns, PipelinePoolSize: -1,
			DisableIdentity: true, MaintNotificationsConfig: quiet,
		})
		return &client{c, c, func(ctx context.Context) error {
			return c.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error { return m.Ping(ctx).Err() })
		}}
	}
	c := redis.NewClient(&redis.Options{
		Addr: conf.GetAddresses()[0], Username: conf.GetUsername(), Password: conf.GetPassword(), DB: int(conf.GetDatabase()), TLSConfig: s.opts.TLS,
		Protocol: 2, MaxRetries: -1, DialTimeout: dialing, DialerRetries: 1,
		ReadTimeout: waiting, WriteTimeout: waiting, ContextTimeoutEnabled: true,
		PoolSize: poolSize, MaxActiveConns: poolSize, PoolTimeout: s.timeout / 2, MinIdleConns: idleConns, PipelinePoolSize: -1,
		DisableIdentity: true, MaintNotificationsConfig: quiet,
	})
	return &client{c, c, func(ctx context.Context) error { return c.Ping(ctx).Err() }}
}

// Run implements plugin.Store.
func (s *Store) Run(ctx context.Context, script *plugin.Script, keys []string, args ...any) (any, error) {
	c := s.live.Load()
	if c == nil {
		c = s.first(ctx)
	}
	if c == nil {
		s.failed.With(s.opts.Name, failedGone).Inc()
		return nil, errGone
	}
	own, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	v, err := s.script(script).Run(own, c, keys, args...).Result()
	if err == nil || errors.Is(err, redis.Nil) {
		return v, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // the caller's time is over, which says nothing of the server
	}
	reason := reasonOf(err)
	s.failed.With(s.opts.Name, reason).Inc()
	switch reason {
	case failedBusy:
		return nil, errTooMany
	case failedScript:
		return nil, err
	}
	s.lose(c, err)
	return nil, err
}

// first waits until the server was asked once, for as long as a command may take: a gateway that has just begun knows nothing
// of its store, which is no reason to refuse its first calls.
func (s *Store) first(ctx context.Context) *client {
	select {
	case <-s.asked:
		return s.live.Load()
	default:
	}
	t := time.NewTimer(s.timeout)
	defer t.Stop()
	select {
	case <-s.asked:
	case <-t.C:
	case <-ctx.Done():
	}
	return s.live.Load()
}

// script is a script as the library has it, with its digest.
func (s *Store) script(script *plugin.Script) *redis.Script {
	if v, ok := s.scripts.Load(script); ok {
		return v.(*redis.Script) //nolint:forcetypeassert // nothing else is kept there
	}
	v, _ := s.scripts.LoadOrStore(script, redis.NewScript(script.Source))
	return v.(*redis.Script) //nolint:forcetypeassert // as above
}

// notReady are the beginnings of errors of a server that is there and does not serve: it loads its data, runs a script for
// too long, has become a replica, has lost its cluster.
var notReady = [...]string{"LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "MISCONF", "OOM", "NOAUTH", "WRONGPASS"}

func reasonOf(err error) string {
	var answered redis.Error
	switch {
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return failedBusy
	case errors.Is(err, context.DeadlineExceeded):
		return failedTimeout
	case errors.As(err, &answered):
		for _, word := range notReady {
			if strings.HasPrefix(answered.Error(), word) {
				return failedBroken
			}
		}
		return failedScript
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		return failedTimeout
	}
	return failedBroken
}

// lose counts the server as gone, unless a newer client has been in use since.
func (s *Store) lose(c *client, why error) {
	if !s.live.CompareAndSwap(c, nil) {
		return
	}
	s.up.Set(0)
	s.opts.Log.Warn("the store does not answer in time; it is left alone until it does", "store", s.opts.Name, "error", why)
	_ = c.Close() // its commands fail now, as they would have
	s.ask()
}

// ask has one goroutine ask whether the server is back.
func (s *Store) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking || s.closed {
		return
	}
	s.asking = true
	s.running.Go(func() {
		for done := false; !done; {
			done = s.await()
		}
	})
}

// Pauses between two questions, doubled from the first to the last.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 320 * time.Millisecond
)

// await asks until the server is back or the store is closed. false: it panicked, and is to begin again.
func (s *Store) await() (done bool) {
	defer func() {
		if r := recover(); r != nil {
			s.opts.Log.Error("panic while a store was asked", "store", s.opts.Name, "panic", r, "stack", string(debug.Stack()))
			done = !s.pause(lastPause)
		}
	}()
	pause := firstPause
	for told := false; ; {
		c, err := s.probe()
		if err == nil {
			s.found(c)
			return true
		}
		s.wasAsked()
		if s.life.Err() != nil {
			return true
		}
		if !told && pause >= lastPause {
			told = true
			s.opts.Log.Warn("the store is not there", "store", s.opts.Name, "error", err)
		}
		if !s.pause(pause/2 + rand.N(pause)) { //nolint:gosec // gateways are only to ask at different times
			return true
		}
		pause = min(2*pause, lastPause)
	}
}

func (s *Store) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.life.Done():
		return false
	}
}

// probe makes a client and has the server answer it twice: the first time connects, the second has to be in time.
func (s *Store) probe() (*client, error) {
	c := s.dial()
	for _, limit := range [...]time.Duration{pingTimeout, s.timeout} {
		ctx, cancel := context.WithTimeout(s.life, limit)
		err := c.ping(ctx)
		cancel()
		if err != nil {
			_ = c.Close() // the fault is told
			return nil, err
		}
	}
	return c, nil
}

// found puts a client into use.
func (s *Store) found(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking = false
	if s.closed {
		_ = c.Close() // it was never used
		return
	}
	s.live.Store(c)
	s.up.Set(1)
	s.wasAsked()
	s.opts.Log.Info("the store answers", "store", s.opts.Name)
}

// wasAsked notes that the server was asked. Only the one goroutine that asks calls it.
func (s *Store) wasAsked() {
	select {
	case <-s.asked:
	default:
		close(s.asked)
	}
}

// Up tells whether the server answers in time as far as is known.
func (s *Store) Up() bool { return s.live.Load() != nil }

// Close ends the store: commands fail from now on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	var err error
	if c := s.live.Swap(nil); c != nil {
		err = c.Close()
	}
	s.running.Wait()
	s.up.Set(0)
	return err
}
