package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// TestMain also makes the test binary act as causeway, for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"causeway":         func() { os.Exit(run(os.Args[1:])) },
		conformanceCommand: conformanceServer,
		instanceCommand:    serveInstance,
		neighbourCommand:   beNeighbour,
	})
}

// leakChecked runs the tests and fails if they leave goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := os.RemoveAll(built.folder); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// gatewayTest is a gateway in this process, run from a configuration file, with what it wrote.
type gatewayTest struct {
	*app
	t      testing.TB
	file   string
	url    string
	log    *syncBuffer
	client *http.Client
	once   sync.Once
}

// syncBuffer is a buffer that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startGateway runs a gateway from text until the test ends. DIR stands for the folder of the file.
func startGateway(t testing.TB, text string) *gatewayTest {
	t.Helper()
	g, err := tryGateway(t, t.TempDir(), text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tryGateway(t testing.TB, dir, text string) (*gatewayTest, error) {
	t.Helper()
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	return tryGatewayOf(t, dir, text, std)
}

// tryGatewayOf is tryGateway with a build of its own.
func tryGatewayOf(t testing.TB, dir, text string, std *proxy.Standard) (*gatewayTest, error) {
	t.Helper()
	var err error
	g := &gatewayTest{t: t, file: filepath.Join(dir, "causeway.yaml"), log: &syncBuffer{}}
	g.write(text)
	g.client = &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	g.app, err = startApp(context.Background(), appOptions{
		std:   std,
		log:   slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
		load:  func() (*config.Document, error) { return config.Load(g.file, std.ConfigTypes()) },
		watch: true,
	})
	if err != nil {
		return nil, err
	}
	g.url = "http://" + g.gateway.Addresses()[0]
	t.Cleanup(g.endNow)
	return g, nil
}

// end stops the gateway; it may be called twice.
func (g *gatewayTest) end() {
	g.once.Do(func() {
		g.client.CloseIdleConnections()
		g.stop(context.Background(), proxy.Stop{Grace: 5 * time.Second})
	})
}

// endNow stops the gateway without waiting for anybody.
func (g *gatewayTest) endNow() {
	g.once.Do(func() {
		g.client.CloseIdleConnections()
		hurry, cancel := context.WithCancel(context.Background())
		cancel()
		g.stop(hurry, proxy.Stop{})
	})
}

// write puts a configuration into the file, as an editor does: a new file renamed over the old.
func (g *gatewayTest) write(text string) {
	g.t.Helper()
	text = strings.ReplaceAll(text, "DIR", filepath.Dir(g.file))
	tmp := g.file + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(tmp, g.file); err != nil {
		g.t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	status  int
	header  http.Header
	body    string
	close   bool // the server asked to leave the connection
	trailer http.Header
}

// json reads the body.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("answer is not JSON: %v: %q", err, a.body)
	}
	return m
}

// text finds a member by its path of keys.
func (a answer) text(t testing.TB, keys ...string) string {
	t.Helper()
	var v any = a.json(t)
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[k]
	}
	s, _ := v.(string)
	return s
}

// call sends a request; header are pairs of name and value.
func (g *gatewayTest) call(method, path, body string, header ...string) answer {
	g.t.Helper()
	return send(g.t, g.client, method, g.url+path, body, header...)
}

// control calls the admin listener with its token.
func (g *gatewayTest) control(method, path string, body []byte) answer {
	g.t.Helper()
	return send(g.t, g.client, method, "http://"+g.adminAddr+path, string(body), "Authorization", "Bearer "+g.token)
}

func send(t testing.TB, client *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := trySend(client, method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func trySend(client *http.Client, method, url, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(raw), resp.Close, resp.Trailer}, err
}

// waitFor waits until a condition holds; what says what was waited for.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// echoConfig is a gateway before the echo service at addresses, with its descriptors in echo.binpb beside the file.
func echoConfig(t testing.TB, dir string, addresses ...string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "echo.binpb"), descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	var endpoints strings.Builder
	for _, a := range addresses {
		endpoints.WriteString("      - address: " + a + "\n")
	}
	return `listen:
  - address: 127.0.0.1:0
admin:
  address: 127.0.0.1:0
schemas:
  - name: echo
    descriptor_set: ` + filepath.Join(dir, "echo.binpb") + `
services:
  - name: echo
    schema: echo
    endpoints:
` + endpoints.String() + `plugins:
  - name: access_log
    config: {output: DIR/access.log}
  - name: metrics
`
}

// startEcho is a gateway before the echo service, with more at the end of its configuration.
func startEcho(t testing.TB, more string, addresses ...string) *gatewayTest {
	t.Helper()
	return startGateway(t, echoConfig(t, t.TempDir(), addresses...)+more)
}
