package store_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/store"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var count = &plugin.Script{Source: `return redis.call('INCRBY', KEYS[1], ARGV[1])`}

func open(t testing.TB, conf *configv1.Redis, tlsConfig *tls.Config) *store.Store {
	t.Helper()
	meter, err := telemetry.NewMeter()
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Options{Name: "counters", Redis: conf, TLS: tlsConfig, Meter: meter, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// slow is the configuration of a server that is given its time: the tests are about what is answered.
func slow(addresses ...string) *configv1.Redis {
	return &configv1.Redis{Addresses: addresses, Timeout: durationpb.New(2 * time.Second)}
}

func waitFor(t testing.TB, what string, most time.Duration, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > most {
			t.Fatalf("waited %s in vain: %s", most, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func TestRunsScripts(t *testing.T) {
	m := miniredis.RunT(t)
	m.RequireUserAuth("gateway", "secret")
	conf := slow(m.Addr())
	conf.Username, conf.Password, conf.Database = "gateway", "secret", 3
	s := open(t, conf, nil)
	waitFor(t, "the server", 20*time.Second, s.Up)
	for want := int64(2); want <= 6; want += 2 {
		if v, err := s.Run(t.Context(), count, []string{"k"}, 2); err != nil || v != want {
			t.Errorf("want %d, found %v %v", want, v, err)
		}
	}
	if v, err := m.DB(3).Get("k"); err != nil || v != "6" {
		t.Errorf("want it in the database, found %q %v", v, err)
	}
	// A server that has forgotten its scripts is sent them again.
	m.FlushAll()
	for _, script := range []*plugin.Script{count, {Source: `return {1, 'a', redis.call('GET', KEYS[1])}`}} {
		if _, err := s.Run(t.Context(), script, []string{"k"}, 2); err != nil {
			t.Error(err)
		}
	}
	// A script at fault is its author's, and says nothing of the server.
	if _, err := s.Run(t.Context(), &plugin.Script{Source: `return redis.call('NONE')`}, nil); err == nil || !s.Up() {
		t.Errorf("found %v", err)
	}
	if _, err := s.Run(t.Context(), &plugin.Script{Source: `return false`}, nil); err != nil {
		t.Errorf("no value: %v", err)
	}
	// So does a caller who leaves.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, count, []string{"k"}, 1); !errors.Is(err, context.Canceled) || !s.Up() {
		t.Errorf("found %v", err)
	}
}

func TestWrongPassword(t *testing.T) {
	m := miniredis.RunT(t)
	m.RequireAuth("secret")
	s := open(t, &configv1.Redis{Addresses: []string{m.Addr()}, Password: "guess"}, nil)
	time.Sleep(50 * time.Millisecond)
	if _, err := s.Run(t.Context(), count, []string{"k"}, 1); err == nil || s.Up() || strings.Contains(err.Error(), "guess") {
		t.Errorf("found %v", err)
	}
}

func TestSeveralAddressesAreACluster(t *testing.T) {
	m := miniredis.RunT(t) // answers CLUSTER SLOTS as a cluster of itself
	s := open(t, slow(m.Addr(), "127.0.0.1:1"), nil)
	waitFor(t, "the server", 20*time.Second, s.Up)
	if v, err := s.Run(t.Context(), count, []string{"k"}, 2); err != nil || v != int64(2) {
		t.Errorf("found %v %v", v, err)
	}
	m.Close()
	waitFor(t, "it to count as gone", 20*time.Second, func() bool { _, _ = s.Run(t.Context(), count, []string{"k"}, 2); return !s.Up() })
}

// What happens to a server: no command waits longer than its time, and the store is in use within two seconds of its return.
func TestServerComesAndGoes(t *testing.T) {
	r := realserver.StartRedis(t)
	timeout := 200 * time.Millisecond // for machines that have other things to do; the proof is about the default
	proof := os.Getenv("CAUSEWAY_PROOF") == "1"
	if proof {
		timeout = 20 * time.Millisecond
	}
	s := open(t, &configv1.Redis{Addresses: []string{r.Address}, Timeout: durationpb.New(timeout)}, nil)
	waitFor(t, "the server", 20*time.Second, s.Up)
	for _, tc := range []struct {
		name       string
		fail, mend func()
	}{
		{"kill", r.Kill, r.Start},
		{"pause", r.Pause, r.Resume},
		{"sleep", func() { go r.Do(false, "DEBUG", "SLEEP", "0.7"); time.Sleep(20 * time.Millisecond) }, func() { time.Sleep(680 * time.Millisecond) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			waitFor(t, "a good command before", 20*time.Second, func() bool { _, err := s.Run(t.Context(), count, []string{"k"}, 1); return err == nil })
			tc.fail()
			var mu sync.Mutex
			var took []time.Duration
			var failed atomic.Int64
			end, last := time.Now().Add(300*time.Millisecond), time.Now().Add(20*time.Second)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for time.Now().Before(end) || failed.Load() == 0 && time.Now().Before(last) {
						began := time.Now()
						if _, err := s.Run(t.Context(), count, []string{"k"}, 1); err != nil {
							failed.Add(1)
						}
						mu.Lock()
						took = append(took, time.Since(began))
						mu.Unlock()
						time.Sleep(time.Millisecond)
					}
				})
			}
			wg.Wait()
			slices.Sort(took)
			p99, most := took[len(took)*99/100], took[len(took)-1]
			if failed.Load() == 0 || most > 5*time.Second || proof && (p99 > timeout || most > 2*timeout) {
				t.Errorf("want every command to end in time: %d of %d failed, p99 %s, longest %s", failed.Load(), len(took), p99, most)
			}
			tc.mend()
			patience := 20 * time.Second
			if proof {
				patience = 2 * time.Second
			}
			back := waitFor(t, "the store to be in use again", patience, s.Up)
			waitFor(t, "a good command after", 20*time.Second, func() bool { _, err := s.Run(t.Context(), count, []string{"k"}, 1); return err == nil })
			t.Logf("%d of %d failed, p99 %s, longest %s, back after %s", failed.Load(), len(took), p99, most, back)
		})
	}
}

// A command waits as long as the configuration says, whatever else has a time of its own; and the first one for the server to
// be asked.
func TestCommandsHaveTheirTime(t *testing.T) {
	r := realserver.StartRedis(t)
	s := open(t, &configv1.Redis{Addresses: []string{r.Address}, Timeout: durationpb.New(5 * time.Second)}, nil)
	if _, err := s.Run(t.Context(), count, []string{"k"}, 1); err != nil {
		t.Errorf("the first command: %v", err)
	}
	r.Pause()
	done := make(chan error)
	go func() { _, err := s.Run(t.Context(), count, []string{"k"}, 1); done <- err }()
	select {
	case err := <-done:
		t.Errorf("want the command to wait, found %v", err)
	case <-time.After(time.Second): //nolint:forbidigo // longer than any time but the configured one
	}
	r.Resume()
	if err := <-done; err != nil {
		t.Errorf("want it answered after all, found %v", err)
	}
}

// A server that takes connections and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := open(t, &configv1.Redis{Addresses: []string{l.Addr().String()}}, nil)
	for range 100 {
		began := time.Now()
		if _, err := s.Run(t.Context(), count, []string{"k"}, 1); err == nil || time.Since(began) > 20*time.Second {
			t.Fatalf("found %v after %s", err, time.Since(began))
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Run(t.Context(), count, []string{"k"}, 1); err == nil {
		t.Error("want a closed store to fail")
	}
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	m := miniredis.NewMiniRedis()
	if err := m.StartTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := open(t, &configv1.Redis{Addresses: []string{m.Addr()}, Timeout: durationpb.New(time.Second)}, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	waitFor(t, "the server", 20*time.Second, s.Up)
	if v, err := s.Run(t.Context(), count, []string{"k"}, 2); err != nil || v != int64(2) {
		t.Errorf("found %v %v", v, err)
	}
	stranger := open(t, &configv1.Redis{Addresses: []string{m.Addr()}}, &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12})
	time.Sleep(100 * time.Millisecond)
	if stranger.Up() {
		t.Error("want a certificate of an unknown authority refused")
	}
}
