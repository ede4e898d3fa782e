package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// limitCallers are the ways to make one call, each of a protocol; a refusal is an error.
func limitCallers(t testing.TB, g *clientsGateway) map[string]func(header ...string) (http.Header, error) {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := echov1.NewEchoClient(conn)
	post := func(path, typ, body string, ok func(a answer) error) func(header ...string) (http.Header, error) {
		return func(header ...string) (http.Header, error) {
			a, err := trySend(g.client, "POST", g.url+path, body, append([]string{"Content-Type", typ}, header...)...)
			if err != nil {
				return nil, err
			}
			return a.header, ok(a)
		}
	}
	wants200 := func(a answer) error {
		if a.status == http.StatusOK {
			return nil
		}
		if a.status != http.StatusTooManyRequests {
			return fmt.Errorf("status %d: %s", a.status, a.body)
		}
		return status.Error(codes.ResourceExhausted, a.body)
	}
	return map[string]func(header ...string) (http.Header, error){
		"REST":    post("/v1/echo", "application/json", `{"text":"x"}`, wants200),
		"Connect": post("/demo.echo.v1.Echo/Call", "application/proto", "", wants200),
		"gRPC-Web": post("/demo.echo.v1.Echo/Call", "application/grpc-web+proto", string(make([]byte, 5)), func(a answer) error {
			if s := a.header.Get("Grpc-Status"); s == "8" || strings.Contains(a.body, "grpc-status: 8") {
				return status.Error(codes.ResourceExhausted, a.header.Get("Grpc-Message"))
			}
			return nil
		}),
		"gRPC": func(header ...string) (http.Header, error) {
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), header...), 10*time.Second)
			defer cancel()
			var head, trailer metadata.MD // of an answer that is a trailer alone, grpc-go shows its headers as that
			_, err := client.Call(ctx, &echov1.CallRequest{}, grpc.Header(&head), grpc.Trailer(&trailer))
			h := http.Header{}
			for k, v := range metadata.Join(head, trailer) {
				h[http.CanonicalHeaderKey(k)] = v
			}
			return h, err
		},
		"WebSocket": func(header ...string) (http.Header, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			h := http.Header{}
			for i := 0; i+1 < len(header); i += 2 {
				h.Set(header[i], header[i+1])
			}
			c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(g.url, "http")+"/v1/rooms/1/messages", &websocket.DialOptions{HTTPClient: g.client, HTTPHeader: h}) //nolint:bodyclose // the library closes it
			if err != nil {
				if resp != nil && resp.StatusCode == http.StatusTooManyRequests {
					return resp.Header, status.Error(codes.ResourceExhausted, "")
				}
				return nil, err
			}
			defer func() { _ = c.CloseNow() }()
			_, b, err := c.Read(ctx)
			if err == nil && strings.Contains(string(b), "RATE_LIMITED") || websocket.CloseStatus(err) > 0 {
				err = status.Error(codes.ResourceExhausted, string(b))
			}
			return resp.Header, err
		},
	}
}

// Each limiter on each protocol: what is above the limit does not reach a service, and is told so in the protocol's own form.
func TestLimitsOnEveryProtocol(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"limit_req":           `{rate: 0.001, burst: 4, key: {everybody: true}}`,
		"limit_count":         `{count: 5, window: 3600s}`,
		"limit_count-sliding": `{count: 5, window: 3600s, type: sliding}`,
	} {
		t.Run(name, func(t *testing.T) {
			plugin, _, _ := strings.Cut(name, "-")
			g := startClientsGateway(t, "", "plugins: [{name: "+plugin+", config: "+config+"}]\n")
			callers := limitCallers(t, g)
			for name, call := range callers {
				if h, err := call(); err != nil {
					t.Errorf("%s: %v", name, err)
				} else if h.Get("Ratelimit-Limit") != "5" {
					t.Errorf("%s: want the limit told, found %v", name, h)
				}
			}
			hits := g.echo.Calls.Load() + g.chat.calls.Load()
			for name, call := range callers {
				h, err := call()
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("%s: want RESOURCE_EXHAUSTED, found %v", name, err)
					continue
				}
				if after, err := strconv.Atoi(h.Get("Retry-After")); err != nil || after < 1 || h.Get("Ratelimit-Remaining") != "0" || h.Get("Ratelimit-Reset") == "" {
					t.Errorf("%s: found %v", name, h)
				}
			}
			if n := g.echo.Calls.Load() + g.chat.calls.Load(); hits != 5 || n != hits {
				t.Errorf("want 5 calls at the services, found %d and %d", hits, n)
			}
		})
	}
}

// Streams and unary calls share limit_conn.
func TestLimitConnOnEveryProtocol(t *testing.T) {
	g := startClientsGateway(t, "", "plugins: [{name: limit_conn, config: {count: 1}}]\n")
	callers := limitCallers(t, g)
	for name, call := range callers {
		if _, err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		g.chat.ended(t)
		waitFor(t, "the call to be over", func() bool { _, err := callers["REST"](); return err == nil })
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/v1/rooms/head.wait/messages", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	waitFor(t, "a stream", func() bool { return g.chat.open.Load() == 1 })
	hits := g.echo.Calls.Load() + g.chat.calls.Load()
	for name, call := range callers {
		if _, err := call(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: want RESOURCE_EXHAUSTED, found %v", name, err)
		}
	}
	if n := g.echo.Calls.Load() + g.chat.calls.Load(); n != hits {
		t.Errorf("want no call at the services, found %d", n-hits)
	}
	cancel()
	waitFor(t, "a call to pass once the stream is over", func() bool { _, err := callers["REST"](); return err == nil })
}

// What was counted outlives a reload that does not concern it.
func TestLimitsOutliveReloads(t *testing.T) {
	g := startClientsGateway(t, "", "plugins: [{name: limit_count, config: {count: 2, window: 3600s}}]\n")
	text := g.text(t)
	for range 2 {
		if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
			t.Fatalf("found %d %s", a.status, a.body)
		}
	}
	g.write(text + "routes: [{name: all, service: echo, methods: [\"demo.echo.v1.Echo/*\"], plugins: [{name: limit_conn, config: {count: 100}}]}]\n")
	g.stopWatch()
	if err := g.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 429 {
		t.Errorf("want the count kept, found %d %s", a.status, a.body)
	}
	g.write(strings.Replace(text, "count: 2", "count: 3", 1))
	if err := g.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 || a.header.Get("RateLimit-Remaining") != "2" {
		t.Errorf("want another limit to begin anew, found %d %v", a.status, a.header)
	}
}

// L1: attackers who forge where they come from, change protocols and connections, and call at once, get what one caller would.
func TestProofLimitHolds(t *testing.T) {
	const rate, burst = 100, 50 // so that a machine that stops for a moment loses nothing
	length := 2 * time.Second
	if full() {
		length = 60 * time.Second
	}
	g := startClientsGateway(t, "", fmt.Sprintf("plugins: [{name: limit_req, config: {rate: %d, burst: %d}}]\n", rate, burst))
	callers := limitCallers(t, g)
	var order []func(...string) (http.Header, error)
	for _, c := range callers {
		order = append(order, c)
	}
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex
	tries, passed := 0, 0
	still, last := time.Duration(0), began // for how long no attacker got an answer and the burst was full
	for i := range 8 {
		wg.Go(func() {
			for n := 0; time.Since(began) < length; n++ {
				forged := fmt.Sprintf("10.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256))
				_, err := order[(i+n)%len(order)]("x-forwarded-for", forged, "x-real-ip", forged, "x_forwarded_for", forged, "forwarded", "for="+forged)
				if err != nil && status.Code(err) != codes.ResourceExhausted {
					t.Error(err)
					return
				}
				mu.Lock()
				tries++
				if err == nil {
					passed++
				}
				now := time.Now()
				still, last = still+max(0, now.Sub(last)-burst*time.Second/rate), now
				mu.Unlock()
				if n%50 == 49 {
					g.client.CloseIdleConnections()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	got := g.echo.Calls.Load() + g.chat.calls.Load()
	least, most := int64(rate*(length-still).Seconds()), int64(rate*took)+1+burst
	if full() {
		most = min(most, int64(1.02*rate*took))
	}
	t.Logf("PROOF limit of %d calls a second against 8 attackers with 5 protocols: %d of %d calls allowed in %.2f s, which is %.2f %%; the attackers saw %d pass, and stood still for %s", rate, got, tries, took, 100*float64(got)/(rate*took), passed, still)
	if got > most || got < least {
		t.Errorf("want %d to %d calls allowed, found %d", least, most, got)
	}
}

// text is the configuration as it was written.
func (g *gatewayTest) text(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
