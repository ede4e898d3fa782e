package main

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// faultProxy passes connections on to an address, until it swallows all that comes.
type faultProxy struct {
	address string
	hole    atomic.Bool // what comes goes nowhere, and connections stay open

	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func startFaultProxy(t testing.TB, to string) *faultProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{address: ln.Addr().String(), ln: ln}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.carry(c, to) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *faultProxy) keep(c net.Conn) {
	p.mu.Lock()
	p.conns = append(p.conns, c)
	p.mu.Unlock()
}

func (p *faultProxy) carry(c net.Conn, to string) {
	p.keep(c)
	up, err := net.Dial("tcp", to) //nolint:noctx // loopback
	if err != nil {
		c.Close()
		return
	}
	p.keep(up)
	p.wg.Go(func() { p.pipe(up, c) })
	p.pipe(c, up)
}

// pipe copies until one side ends, or for ever nothing from the moment on that the hole is open.
func (p *faultProxy) pipe(from, to net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	lost := false
	for {
		n, err := from.Read(buf)
		lost = lost || p.hole.Load() // a connection that has lost bytes is of no use any more
		if n > 0 && !lost {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// storeFaults is a gateway whose limits are in a Redis behind a fault proxy: a host for each policy, with 40 calls for each key of all gateways
// and 10 of its own.
type storeFaults struct {
	*gatewayTest
	redis *realserver.Redis
	proxy *faultProxy
	keys  int
}

func startStoreFaults(t *testing.T) *storeFaults {
	t.Helper()
	s := &storeFaults{redis: realserver.StartRedis(t)}
	s.proxy = startFaultProxy(t, s.redis.Address)
	backend := echo.Start(t, "127.0.0.1:0", "a")
	timeout := "0.5s" // for machines that have other things to do; the proof is about the default
	if full() {
		timeout = "0.02s"
	}
	var routes strings.Builder
	for _, policy := range []string{"local", "allow", "deny"} {
		fmt.Fprintf(&routes, "  - {name: %s, hosts: [%[1]s.test], service: echo, methods: [demo.echo.v1.Echo/Call], plugins: [{name: limit_count, config: {count: 40, window: 600s, key: {header: x-key}, store: counters, replicas: 4, on_error: %[1]s}}]}\n", policy)
	}
	s.gatewayTest = startEcho(t, "stores: [{name: counters, redis: {addresses: [\""+s.proxy.address+"\"], timeout: "+timeout+"}}]\nroutes:\n"+routes.String(), backend.Address)
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16 //nolint:forcetypeassert // as it was made
	s.up(t)
	return s
}

func (s *storeFaults) up(t *testing.T) {
	t.Helper()
	waitFor(t, "the store", func() bool { return metric(s.gatewayTest, "causeway_store_up{") == 1 })
}

// passed is how many of n calls with a new key pass; the others have the status.
func (s *storeFaults) passed(t *testing.T, policy string, n, status int) (passed int) {
	t.Helper()
	s.keys++
	key := fmt.Sprintf("%s-%d", policy, s.keys)
	for range n {
		switch a := s.call("GET", "/v1/echo/x", "", "Host", policy+".test", "X-Key", key); a.status {
		case 200:
			passed++
		case status, 503: // where it is the policy
		default:
			t.Fatalf("%s: found %d %s", policy, a.status, a.body)
		}
	}
	return passed
}

// together looks that the limit is that of all gateways, whatever the policy. On a busy machine the store is not in time now
// and then, so it looks several times.
func (s *storeFaults) together(t *testing.T, when string) {
	t.Helper()
	for _, policy := range []string{"local", "allow", "deny"} {
		n := 0
		for try := 0; try < 20 && n != 40; try++ {
			s.up(t)
			n = s.passed(t, policy, 45, 429)
		}
		if n != 40 {
			t.Errorf("%s, %s: want 40 of 45, found %d", when, policy, n)
		}
	}
}

// latency makes calls for a while and returns how long they took, the longest last. Each has a key of its own, so that each asks
// the store.
func (s *storeFaults) latency(t *testing.T, d time.Duration, meanwhile func()) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for i := range 4 {
		s.keys++
		key := fmt.Sprintf("latency-%d-%d-", s.keys, i)
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				began := time.Now()
				if a, err := trySend(s.client, "GET", s.url+"/v1/echo/x", "", "Host", "allow.test", "X-Key", fmt.Sprint(key, n)); err != nil || a.status != 200 {
					t.Errorf("found %d %s %v", a.status, a.body, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	time.Sleep(d / 10)
	meanwhile()
	wg.Wait()
	slices.Sort(took)
	return took
}

// L4: whatever happens to the Redis, calls go on without delay, each policy does what it says, and the limit is that of all
// gateways again within two seconds of the server's return.
func TestProofStoreFaults(t *testing.T) {
	s := startStoreFaults(t)
	length := 300 * time.Millisecond
	if full() {
		length = 5 * time.Second
	}
	for _, tc := range []struct {
		name       string
		fail, mend func()
		short      bool
	}{
		{"killed", s.redis.Kill, s.redis.Start, true},
		{"stopped", s.redis.Pause, s.redis.Resume, true},
		{"asleep", func() { go s.redis.Do(false, "DEBUG", "SLEEP", fmt.Sprint(2*length.Seconds()+1)) }, func() { s.redis.Do(true, "PING") }, false},
		{"behind a black hole", func() { s.proxy.hole.Store(true) }, func() { s.proxy.hole.Store(false) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !full() && !tc.short {
				return // the server sleeps for as long as it was told, which proxy/store has a test of
			}
			s.together(t, "before")
			before := s.latency(t, length, func() {})
			during := s.latency(t, length, tc.fail)
			for policy, want := range map[string]int{"local": 10, "allow": 30, "deny": 0} {
				status := 429
				if policy == "deny" {
					status = 503
				}
				if n := s.passed(t, policy, 30, status); n != want {
					t.Errorf("meanwhile, %s: want %d of 30, found %d", policy, want, n)
				}
			}
			tc.mend()
			began := time.Now()
			s.up(t)
			back := time.Since(began)
			s.together(t, "afterwards")
			p99 := func(took []time.Duration) time.Duration { return took[len(took)*99/100] }
			added := p99(during) - p99(before)
			t.Logf("PROOF Redis %s: p99 %s before, %s meanwhile (added %s), longest %s, of %d calls; in use again after %s", tc.name, p99(before), p99(during), added, during[len(during)-1], len(during), back)
			if full() && (added > 20*time.Millisecond || back > 2*time.Second) {
				t.Errorf("want at most 20 ms added and 2 s to return, found %s and %s", added, back)
			}
			if during[len(during)-1] > 5*time.Second {
				t.Errorf("want no call to wait for the store, found %s", during[len(during)-1])
			}
		})
	}
}

// A server that has lost all counts begins anew. That a key is over its limit is remembered until its window ends.
func TestStoreIsFlushed(t *testing.T) {
	s := startStoreFaults(t)
	if n := s.passed(t, "local", 45, 429); n != 40 {
		t.Errorf("want 40 of 45, found %d", n)
	}
	if n := s.passed(t, "local", 20, 429); n != 20 {
		t.Errorf("want 20 of 20, found %d", n)
	}
	if said := s.redis.Do(true, "FLUSHALL"); said != "+OK" {
		t.Fatal(said)
	}
	for first, want := range map[int]int{1: 0, 2: 40} {
		s.keys = first - 1 // the same key again
		if n := s.passed(t, "local", 45, 429); n != want {
			t.Errorf("key %d: want %d of 45, found %d", first, want, n)
		}
	}
	if n := metric(s.gatewayTest, "causeway_store_up{"); n != 1 {
		t.Errorf("want the store in use, found %d", n)
	}
}
