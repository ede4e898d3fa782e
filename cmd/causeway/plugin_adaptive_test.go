package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// startLimited is an echo service with so many workers, each of which takes so long for a call. Calls wait for a worker in a
// queue without end, as those of most services do.
func startLimited(t testing.TB, workers int, each time.Duration) *echo.Server {
	t.Helper()
	places := make(chan struct{}, workers)
	return echo.Start(t, "127.0.0.1:0", "a", grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		defer func() { <-places }()
		time.Sleep(each) // it is the work
		return h(ctx, req)
	}))
}

// startAdaptive is a gateway before the echo service with adaptive_concurrency first in its chain.
func startAdaptive(t testing.TB, config, address string) *gatewayTest {
	t.Helper()
	return startGateway(t, strings.Replace(echoConfig(t, t.TempDir(), address), "plugins:\n", "plugins:\n  - {name: adaptive_concurrency, config: "+config+"}\n", 1))
}

// openLoop sends calls at a constant rate, whatever becomes of those before: a call that finds no free connection gets a new
// one, and its time counts from when it was due.
type openLoop struct {
	address string
	header  string

	mu   sync.Mutex
	idle []*loopConn
	all  []*loopConn

	good, refused, failed atomic.Int64
	lats                  []time.Duration // of good calls
	shed                  []time.Duration // of refusals
	late                  time.Duration   // how late calls were sent at worst
	first                 error
}

type loopConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func (o *openLoop) get() (*loopConn, error) {
	o.mu.Lock()
	if n := len(o.idle); n > 0 {
		c := o.idle[n-1]
		o.idle = o.idle[:n-1]
		o.mu.Unlock()
		return c, nil
	}
	o.mu.Unlock()
	conn, err := net.DialTimeout("tcp", o.address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &loopConn{conn, bufio.NewReader(conn)}
	o.mu.Lock()
	o.all = append(o.all, c)
	o.mu.Unlock()
	return c, nil
}

// call makes one call that was due at a time.
func (o *openLoop) call(due time.Time) {
	status, err := o.exchange()
	took := time.Since(due)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && status == http.StatusOK:
		o.good.Add(1)
		o.lats = append(o.lats, took)
	case err == nil && status == http.StatusServiceUnavailable:
		o.refused.Add(1)
		o.shed = append(o.shed, took)
	default:
		o.failed.Add(1)
		if o.first == nil {
			o.first = fmt.Errorf("status %d: %w", status, err)
		}
	}
}

func (o *openLoop) exchange() (int, error) {
	c, err := o.get()
	if err != nil {
		return 0, err
	}
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(c.conn, "GET /v1/echo/x HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: 2\r\n"+o.header+"\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if !resp.Close {
		o.mu.Lock()
		o.idle = append(o.idle, c)
		o.mu.Unlock()
	}
	return resp.StatusCode, nil
}

// run sends at a rate for a time. What came before from is not counted.
func (o *openLoop) run(rate float64, from, d time.Duration) {
	began := time.Now()
	var wg sync.WaitGroup
	counted := false
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if due.Sub(began) >= d {
			break
		}
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if !counted && due.Sub(began) >= from {
			counted = true
			o.forget()
		}
		o.late = max(o.late, time.Since(due))
		wg.Go(func() { o.call(due) })
	}
	wg.Wait()
}

func (o *openLoop) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.good.Store(0)
	o.refused.Store(0)
	o.failed.Store(0)
	o.lats, o.shed, o.late = nil, nil, 0
}

func (o *openLoop) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.all {
		_ = c.conn.Close() // it is done with
	}
}

func percentile(took []time.Duration, p int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*p/100]
}

// R10: at twice what a service can do, the gateway lets through what it can do, about as fast as at 80 %, and refuses the rest at once. The
// load is open-loop: it does not wait for answers.
func TestProofOverload(t *testing.T) {
	const workers, each = 8, 10 * time.Millisecond
	settle, length := time.Second, time.Second
	if full() {
		settle, length = 5*time.Second, 30*time.Second
	}
	g := startAdaptive(t, "{}", startLimited(t, workers, each).Address)
	address := strings.TrimPrefix(g.url, "http://")
	capacity := measure(t, address, 4*workers, length/2)
	load := func(rate float64) (*openLoop, float64) {
		o := &openLoop{address: address}
		defer o.close()
		o.run(rate, settle, settle+length)
		if o.failed.Load() > 0 {
			t.Errorf("%d calls failed; the first: %v", o.failed.Load(), o.first)
		}
		return o, float64(o.good.Load()) / length.Seconds()
	}
	calm, _ := load(0.8 * capacity)
	over, goodput := load(2 * capacity)
	p99, shed := percentile(over.lats, 99), percentile(over.shed, 99)
	t.Logf("PROOF capacity %.0f a second. At 80 %%: p99 %s, %d refused. At 200 %%: goodput %.1f %%, p99 of accepted %s (%.2f times), %d refused with p99 %s; calls were sent up to %s late",
		capacity, percentile(calm.lats, 99), calm.refused.Load(), 100*goodput/capacity, p99, float64(p99)/float64(percentile(calm.lats, 99)), over.refused.Load(), shed, over.late)
	if over.refused.Load() == 0 || over.good.Load() == 0 {
		t.Error("want some calls served and some refused")
	}
	if full() && (goodput < 0.85*capacity || p99 > 3*percentile(calm.lats, 99)) {
		t.Errorf("want goodput of 85 %% and p99 within 3 times")
	}
	// Once the load has gone, all calls pass.
	waitFor(t, "calls to pass", func() bool { return g.call("GET", "/v1/echo/x", "").status == 200 })
}

// measure is how many calls a second come back to so many callers that each wait for their answer.
func measure(t *testing.T, address string, callers int, d time.Duration) float64 {
	t.Helper()
	o := &openLoop{address: address}
	defer o.close()
	began := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for time.Since(began) < d {
				o.call(time.Now())
			}
		})
	}
	wg.Wait()
	if o.failed.Load() > 0 {
		t.Fatal(o.first)
	}
	return float64(o.good.Load()) / time.Since(began).Seconds()
}

// Of two classes the one with the smaller share is refused first, before its body is read and before authentication.
func TestOverloadRefusesTheLessImportantFirst(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startAdaptive(t, `{min: 4, max: 4, classes: [{name: paying, when: "metadata['authorization'] != ''"}, {name: others, share: 0.5}]}`, backend.Address)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	hold := func(n int, header ...string) {
		t.Helper()
		at := backend.Waiting.Load()
		for range n {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/v1/wait?time=15s", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i+1 < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			wg.Go(func() {
				if resp, err := g.client.Do(req); err == nil {
					resp.Body.Close()
				}
			})
		}
		waitFor(t, "calls at the service", func() bool { return backend.Waiting.Load() == at+int64(n) })
	}
	refused := func(header ...string) {
		t.Helper()
		// The body never comes; the refusal does.
		c := dialed(t, strings.TrimPrefix(g.url, "http://"))
		var head strings.Builder
		head.WriteString("POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n")
		for i := 0; i+1 < len(header); i += 2 {
			fmt.Fprintf(&head, "%s: %s\r\n", header[i], header[i+1])
		}
		if _, err := io.WriteString(c, head.String()+"\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(string(raw), "OVERLOADED") {
			t.Errorf("found %d %v %s %v", resp.StatusCode, resp.Header, raw, err)
		}
	}
	hold(2)
	refused()
	hold(2, "Authorization", "Bearer x")
	refused("Authorization", "Bearer x")
	if n := backend.Calls.Load(); n != 4 {
		t.Errorf("want four calls at the service, found %d", n)
	}
	if n := metric(g, `causeway_adaptive_concurrency_refused_total{class="others"`); n != 1 {
		t.Errorf("found %d refused of the others", n)
	}
	cancel()
	wg.Wait()
	waitFor(t, "room again", func() bool { return g.call("GET", "/v1/echo/x", "").status == 200 })
}

// Callers who send their bodies slowly take no places.
func TestSlowUploadsTakeNoPlaces(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startAdaptive(t, "{min: 2, max: 2}", backend.Address)
	var conns []net.Conn
	for range 10 {
		c := dialed(t, strings.TrimPrefix(g.url, "http://"))
		if _, err := io.WriteString(c, "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"text\":"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	waitFor(t, "the uploads to be there", func() bool { return metric(g, "causeway_connections{") >= 10 })
	for range 20 {
		if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
			t.Fatalf("want others served, found %d %s", a.status, a.body)
		}
	}
	for _, c := range conns { // one after another each passes
		if _, err := io.WriteString(c, `"x"}`); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("found %v %v", resp, err)
		}
		resp.Body.Close()
	}
}
