package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

func TestEveryCodeHasItsStatus(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	for code, status := range map[codes.Code]int{
		codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504,
		codes.NotFound: 404, codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429,
		codes.FailedPrecondition: 400, codes.Aborted: 409, codes.OutOfRange: 400, codes.Unimplemented: 501, codes.Internal: 500,
		codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
	} {
		t.Run(code.String(), func(t *testing.T) {
			body := fmt.Sprintf(`{"code":%d,"message":"said so: \"%s\"","details":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}]}`, code, code)
			a := g.call("POST", "/v1/fail", body)
			if a.status != status {
				t.Fatalf("status: want %d, found %d: %s", status, a.status, a.body)
			}
			if a.header.Get("X-Request-Id") == "" {
				t.Error("want X-Request-Id on the answer")
			}
			if code == codes.OK {
				return
			}
			want := fmt.Sprintf(`{"code":%d,"message":"said so: \"%s\"","details":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}]}`, code, code)
			if diff := cmp.Diff(want, a.body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A detail of a type that neither the schema nor google.rpc has keeps its bytes.
func TestUnknownDetailKeepsItsBytes(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	a := g.call("POST", "/v1/fail", `{"code":9,"details":[{"@type":"type.googleapis.com/google.rpc.NoSuchThing"}]}`)
	if a.status != 400 || !strings.Contains(a.body, "google.rpc.NoSuchThing") {
		t.Errorf("an Any of an unknown type in a request: want 400 naming it, found %d %s", a.status, a.body)
	}
	a = g.call("POST", "/v1/fail", `{"code":9,"details":[{"@type":"types.example/google.protobuf.Duration","value":"1s"}]}`)
	if a.status != 400 || !strings.Contains(a.body, "wanted a type URL that begins with type.googleapis.com/") {
		t.Errorf("an Any of another authority: want 400, found %d %s", a.status, a.body)
	}
	if backend.Calls.Load() != 0 {
		t.Error("want the service not reached")
	}
}

func TestMetadata(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, `routes:
  - name: listed
    methods: [demo.echo.v1.Echo/*]
    hosts: [listed.example.com]
    service: echo
    request_headers: [X-Tenant, cookie, X-Forwarded-For]
    response_headers: [x-instance]
  - name: plain
    methods: [demo.echo.v1.Echo/*]
    service: echo
`, backend.Address)
	const host = "listed.example.com"
	for _, tc := range []struct {
		name, host, header, value, key, want string
	}{
		{"authorization passes", "", "Authorization", "Bearer t", "authorization", "Bearer t"},
		{"trace passes", "", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"language passes", "", "Accept-Language", "de", "accept-language", "de"},
		{"prefix is taken off", "", "Grpc-Metadata-X-Color", "blue", "x-color", "blue"},
		{"binary is decoded", "", "Grpc-Metadata-Token-Bin", "AP8=", "token-bin", "00ff"},
		{"other headers stay out", "", "X-Color", "blue", "x-color", ""},
		{"a listed header passes", host, "X-Tenant", "7", "x-tenant", "7"},
		{"an unlisted one does not", "", "X-Tenant", "7", "x-tenant", ""},
		{"cookie stays out", "", "Cookie", "a=b", "cookie", ""},
		{"a listed cookie passes", host, "Cookie", "a=b", "cookie", "a=b"},
		{"forwarded-for stays out", "", "X-Forwarded-For", "10.0.0.1", "x-forwarded-for", ""},
		{"identity stays out", "", "X-Consumer-Name", "root", "x-consumer-name", ""},
		{"identity by prefix stays out", "", "Grpc-Metadata-X-Consumer-Name", "root", "x-consumer-name", ""},
		{"identity by underscore stays out", "", "Grpc-Metadata-X_consumer_name", "root", "x_consumer_name", ""},
		{"cookie by prefix stays out", "", "Grpc-Metadata-Cookie", "a=b", "cookie", ""},
		{"grpc headers stay out", "", "Grpc-Encoding", "gzip", "grpc-encoding", ""},
		{"grpc headers by prefix stay out", "", "Grpc-Metadata-Grpc-Status", "0", "grpc-status", ""},
		{"hop-by-hop by prefix stays out", "", "Grpc-Metadata-Connection", "close", "connection", ""},
		{"the caller's request id passes", "", "X-Request-Id", "abc-1", "x-request-id", "abc-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.call("GET", "/v1/echo/x", "", tc.header, tc.value, "Host", tc.host)
			if a.status != 200 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if got := a.text(t, "metadata", tc.key); got != tc.want {
				t.Errorf("metadata %s: want %q, found %q", tc.key, tc.want, got)
			}
		})
	}
	t.Run("bad base64 is refused", func(t *testing.T) {
		before := backend.Calls.Load()
		a := g.call("GET", "/v1/echo/x", "", "Grpc-Metadata-Token-Bin", "***")
		if a.status != 400 || a.json(t)["code"] != 3.0 {
			t.Errorf("want 400, found %d %s", a.status, a.body)
		}
		if backend.Calls.Load() != before {
			t.Error("want the service not reached")
		}
	})
	t.Run("answers", func(t *testing.T) {
		a := g.call("GET", "/v1/echo/x", "", "Host", host)
		got := map[string]string{}
		for _, k := range []string{"X-Instance", "Grpc-Metadata-X-Instance", "Grpc-Metadata-X-Raw-Bin", "Grpc-Trailer-X-Cost"} {
			got[k] = a.header.Get(k)
		}
		want := map[string]string{"X-Instance": "a", "Grpc-Metadata-X-Instance": "", "Grpc-Metadata-X-Raw-Bin": "AP8", "Grpc-Trailer-X-Cost": "3"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a request id that could break a log is replaced", func(t *testing.T) {
		a := g.call("GET", "/v1/echo/x", "", "X-Request-Id", `a"b`)
		if id := a.header.Get("X-Request-Id"); len(id) != 32 {
			t.Errorf("want a new id of 32 digits, found %q", id)
		}
	})
}

// The deadlines lie far apart and the caller's own clock says how much of one may be used up when the call arrives, so that
// a slow machine changes nothing.
func TestDeadlineIsTheSmallest(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, `routes:
  - name: short
    methods: [demo.echo.v1.Echo/*]
    service: echo
    timeout: 60s
`, backend.Address)
	const rounding = 100 * time.Millisecond
	for _, tc := range []struct {
		name   string
		header []string
		most   time.Duration
	}{
		{"the route's", nil, time.Minute},
		{"Grpc-Timeout", []string{"Grpc-Timeout", "50000m"}, 50 * time.Second},
		{"X-Request-Timeout in seconds", []string{"X-Request-Timeout", "39.5"}, 39500 * time.Millisecond},
		{"X-Request-Timeout as a duration", []string{"X-Request-Timeout", "45s"}, 45 * time.Second},
		{"both", []string{"X-Request-Timeout", "45s", "Grpc-Timeout", "30000m"}, 30 * time.Second},
		{"more than the route's", []string{"Grpc-Timeout", "99999999H"}, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			a := g.call("GET", "/v1/echo/x", "", tc.header...)
			took := time.Since(start)
			d, err := time.ParseDuration(a.text(t, "deadline"))
			if err != nil {
				t.Fatal(err, a.body)
			}
			if d > tc.most || d < tc.most-took-rounding {
				t.Errorf("deadline at the service: want %s less the %s that the call took at most, found %s", tc.most, took, d)
			}
		})
	}
	for _, tc := range []struct {
		header, value string
		status        int
	}{
		{"Grpc-Timeout", "1", 400},
		{"Grpc-Timeout", "123456789S", 400},
		{"Grpc-Timeout", "-1S", 400},
		{"Grpc-Timeout", "0n", 504},
		{"X-Request-Timeout", "soon", 400},
		{"X-Request-Timeout", "NaN", 400},
		{"X-Request-Timeout", "-5s", 504},
		{"X-Request-Timeout", "0", 504},
	} {
		t.Run(tc.header+" "+tc.value, func(t *testing.T) {
			before := backend.Calls.Load()
			if a := g.call("GET", "/v1/echo/x", "", tc.header, tc.value); a.status != tc.status {
				t.Errorf("want %d, found %d %s", tc.status, a.status, a.body)
			}
			if backend.Calls.Load() != before {
				t.Error("want the service not reached")
			}
		})
	}
	t.Run("it passes", func(t *testing.T) {
		// Nothing else ends it before the client's patience does: not the service, and not the route's timeout.
		a := g.call("GET", "/v1/wait?time=30s", "", "X-Request-Timeout", "50ms")
		if a.status != 504 || a.json(t)["code"] != 4.0 {
			t.Errorf("want 504 and code 4, found %d %s", a.status, a.body)
		}
		waitFor(t, "the service's call to be cancelled", func() bool { return backend.Waiting.Load() == 0 })
	})
}

func TestTheCallersDepartureCancelsTheCall(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/v1/wait?time=10s", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		resp, err := g.client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		done <- err
	}()
	waitFor(t, "the call to reach the service", func() bool { return backend.Waiting.Load() == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("want the caller's own cancellation, found %v", err)
	}
	waitFor(t, "the service's call to be cancelled", func() bool { return backend.Cancelled.Load() == 1 })
}

// What the edge refuses never reaches the service, and the connection lives on.
func TestAmbiguousPathsAreRefused(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	var closed []string
	for path, want := range map[string]string{
		"/v1/echo/a%2Fb":         "200", // inside a captured segment
		"/v1/files/a/b%2Fc":      "200",
		"/v1%2Fecho/a":           "404",
		"/v1//echo/a":            "400",
		"/v1/echo/../echo/a":     "400",
		"/v1/echo/%2e%2e/a":      "400",
		"/v1/./echo/a":           "400",
		"/v1/echo/a\\b":          "400",
		"/v1/echo/a%5Cb":         "400",
		"/v1/echo/a%00b":         "400",
		"/v1/echo/a%252Fb":       "400",
		"/v1/echo/a%zz":          "400",
		"/v1/echo/a#b":           "400",
		"/v1/echo/a?data=x#b":    "400",
		"/v1/echo/":              "400",
		"/V1/echo/a":             "404",
		"/v1/echo/%ff":           "400",
		"/v1/echo/a?text=b":      "400", // bound by path and query
		"/v1/echo/a?nope=b":      "400",
		"/v1/echo/a?number=x":    "400",
		"/v1/echo/a?number=1":    "200",
		"/v1/echo/a;jsession=1":  "200",
		"/v1/echo/a?number=%zz":  "400",
		"http://other/v1/echo/a": "400", // the Host header says otherwise
		"http://x/v1/echo/a":     "200",
	} {
		before := backend.Calls.Load()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			t.Fatal(path, err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(path, err)
		}
		body, err := io.ReadAll(resp.Body)
		if status := strconv.Itoa(resp.StatusCode); err != nil || status != want {
			t.Errorf("%s: want %s, found %s %s %v", path, want, status, body, err)
		}
		_ = resp.Body.Close() // it has been read
		if resp.Close {       // the engine refuses the request itself, and reads no other behind it
			closed = append(closed, path)
			_ = conn.Close()                                                                   // replaced
			if conn, err = net.Dial("tcp", strings.TrimPrefix(g.url, "http://")); err != nil { //nolint:noctx // on loopback
				t.Fatal(err)
			}
			answers.Reset(conn)
		}
		if reached := backend.Calls.Load() != before; reached != (want == "200") {
			t.Errorf("%s: reached the service: %v", path, reached)
		}
	}
	slices.Sort(closed)
	if want := []string{"http://other/v1/echo/a"}; !slices.Equal(closed, want) {
		t.Errorf("want the connection closed after %q alone, found %q", want, closed)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, `routes:
  - name: small
    methods: [demo.echo.v1.Echo/*]
    service: echo
    max_body: 1000
`, backend.Address)
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		reason                   string
	}{
		{"no route", "GET", "/nope", "", nil, 404, "ROUTE_NOT_FOUND"},
		{"wrong verb", "DELETE", "/v1/wait", "", nil, 405, "METHOD_NOT_ALLOWED"},
		{"malformed JSON", "POST", "/v1/echo", `{"text":`, nil, 400, "INVALID_REQUEST"},
		{"unknown field", "POST", "/v1/echo", `{"txet":"a"}`, nil, 400, "INVALID_REQUEST"},
		{"wrong type", "POST", "/v1/echo", `{"number":1.5}`, nil, 400, "INVALID_REQUEST"},
		{"out of range", "POST", "/v1/echo", `{"number":"9223372036854775808"}`, nil, 400, "INVALID_REQUEST"},
		{"query beside a whole body", "POST", "/v1/echo?text=a", `{}`, nil, 400, "INVALID_REQUEST"},
		{"too large", "POST", "/v1/echo", `{"text":"` + strings.Repeat("x", 1000) + `"}`, nil, 413, "BODY_TOO_LARGE"},
		{"media type", "POST", "/v1/echo", `<text/>`, []string{"Content-Type", "application/xml"}, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"content encoding", "POST", "/v1/echo", `{}`, []string{"Content-Encoding", "gzip"}, 415, "UNSUPPORTED_ENCODING"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.call(tc.method, tc.path, tc.body, tc.header...)
			if a.status != tc.status || !strings.Contains(a.body, `"reason":"`+tc.reason+`","domain":"causeway"`) {
				t.Errorf("want %d with reason %s, found %d %s", tc.status, tc.reason, a.status, a.body)
			}
			if ct := a.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("content type: want JSON, found %q", ct)
			}
		})
	}
	if n := backend.Calls.Load(); n != 0 {
		t.Errorf("want the service not reached, it was %d times", n)
	}
	if a := g.call("DELETE", "/v1/wait", ""); a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow: want GET and HEAD, found %q", a.header.Get("Allow"))
	}
	waitFor(t, "the access log to have every call", func() bool {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
		return err == nil && strings.Count(string(raw), "\n") == 11 && strings.Contains(string(raw), `ROUTE_NOT_FOUND`)
	})
}

// A chunked body over the limit is refused without being read to its end.
func TestEndlessBodyIsRefused(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, `routes:
  - name: small
    methods: [demo.echo.v1.Echo/*]
    service: echo
    max_body: 100000
`, backend.Address)
	r, w := io.Pipe()
	go func() {
		chunk := []byte(strings.Repeat(" ", 8<<10))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, g.url+"/v1/echo", r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.client.Do(req)
	_ = r.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 || backend.Calls.Load() != 0 {
		t.Errorf("want 413 and the service not reached, found %d after %d calls", resp.StatusCode, backend.Calls.Load())
	}
}

// A body that does not come is cut at the call's deadline.
func TestSlowBodyEndsAtTheDeadline(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/echo HTTP/1.1\r\nHost: x\r\nX-Request-Timeout: 100ms\r\nContent-Length: 10\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(14 * time.Second)); err != nil { // the timeout that routes have is 15 s
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 504 ") {
		t.Errorf("want 504, found %q %v", buf[:n], err)
	}
}

// A call that no instance has run goes to another one.
func TestDeadInstanceCostsNoCall(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close() // nobody listens there now
	live := echo.Start(t, "127.0.0.1:0", "live")
	g := startEcho(t, "", dead.Addr().String(), live.Address)
	for range 50 {
		if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
			t.Fatalf("want 200, found %d %s", a.status, a.body)
		}
	}
	live.Stop()
	a := g.call("GET", "/v1/echo/x", "")
	if a.status != 503 || a.json(t)["code"] != 14.0 {
		t.Errorf("want 503 and code 14, found %d %s", a.status, a.body)
	}
	for _, secret := range []string{"127.0.0.1", "connection refused", "dial"} {
		if strings.Contains(a.body, secret) {
			t.Errorf("the answer shows %q of the transport: %s", secret, a.body)
		}
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	a, b := echo.Start(t, "127.0.0.1:0", "a"), echo.Start(t, "127.0.0.1:0", "b")
	g := startEcho(t, "", a.Address, b.Address)
	for range 40 {
		if got := g.call("GET", "/v1/echo/x", ""); got.status != 200 {
			t.Fatal(got.body)
		}
	}
	if a.Calls.Load() != 20 || b.Calls.Load() != 20 {
		t.Errorf("want 20 calls each, found %d and %d", a.Calls.Load(), b.Calls.Load())
	}
}

// What the engine refuses before it is a call is in the access log too.
func TestMalformedRequestsAreLogged(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(raw), "HTTP/1.1 400 ") || !strings.Contains(string(raw), "X-Request-Id: ") || !strings.Contains(string(raw), `"domain":"causeway"`) {
		t.Errorf("found %q %v", raw, err)
	}
	waitFor(t, "the access log to have it", func() bool {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
		return err == nil && strings.Contains(string(raw), `"status":400`)
	})
}
