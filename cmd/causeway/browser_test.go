package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// browserFolder has the page.
const browserFolder = "../../testdata/browser"

// TestBrowser has Debian's Chromium call the gateway from a page on another origin: over HTTP/1.1, and with TLS over what a
// browser then agrees on, HTTP/2 for all but WebSocket.
// The page reports to the server that it comes from.
func TestBrowser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs other programs: not with -short")
	}
	chromium := realserver.Need(t, "chromium", "chromium")
	page := bundle(t, installClients(t))
	ca := newAuthority(t, "nobody trusts this")
	cert, key := ca.issue("gateway", 1)
	for _, c := range []struct{ name, tls string }{{"plain", ""}, {"TLS", "{cert_file: " + cert + ", key_file: " + key + "}"}} {
		t.Run(c.name, func(t *testing.T) {
			p := servePage(t, page)
			g := startClientsGateway(t, c.tls, `plugins: [{name: cors, config: {origins: ["`+p.origin+`"]}}]
defaults: {rest: {websocket_origins: ["`+p.origin+`"]}}
`)
			p.start(t, g.set)
			url := g.url
			if c.tls != "" {
				url = strings.Replace(url, "http:", "https:", 1)
			}
			for _, q := range []struct {
				name, origin, query string
				checks              int
			}{
				{"an origin that has leave", p.origin, "?gateway=" + url, 47},
				{"another origin", p.other, "?leave=no&gateway=" + url, 6},
			} {
				t.Run(q.name, func(t *testing.T) {
					before := g.echo.Calls.Load()
					report := p.visit(t, chromium, q.origin+"/"+q.query)
					if n := checksOf(t, report); n != q.checks {
						t.Errorf("want %d checks, found %d", q.checks, n)
					}
					if !strings.Contains(report, "exit 0\n") {
						t.Errorf("the page did not end well:\n%s", report)
					}
					// A simple request is made without asking, and its answer withheld by the browser: that is the one.
					if n := g.echo.Calls.Load() - before; q.origin == p.other && n != 1 {
						t.Errorf("want one call of a page without leave at the service, found %d", n)
					}
				})
			}
		})
	}
}

// bundle makes one file of the page's script and all that it imports.
func bundle(t *testing.T, clients string) (script []byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(browserFolder, "page.js"))
	if err != nil {
		t.Fatal(err)
	}
	placeFile(t, filepath.Join(clients, "page.js"), raw)
	esbuild := exec.CommandContext(t.Context(), "node", "node_modules/esbuild/bin/esbuild", "page.js", "--bundle", "--format=esm", "--platform=browser", "--target=es2022", "--log-level=warning")
	esbuild.Dir = clients
	var stderr strings.Builder
	esbuild.Stderr = &stderr
	script, err = esbuild.Output()
	if err != nil || len(script) == 0 {
		t.Fatalf("esbuild: %v\n%s", err, stderr.String())
	}
	return script
}

// browserPage serves the page, under two origins, and takes its report.
type browserPage struct {
	origin, other string
	script        []byte
	server        *httptest.Server
	asked         atomic.Int64 // how often a browser wanted it
	reports       chan string
}

// servePage gives the page its origins; nothing is served before start.
func servePage(t *testing.T, script []byte) *browserPage {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return &browserPage{origin: "http://127.0.0.1:" + port, other: "http://localhost:" + port, script: script, server: s, reports: make(chan string, 1)}
}

// start serves the page, and the file that it reads its services from.
func (p *browserPage) start(t *testing.T, descriptors string) {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(browserFolder, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(index) // the report tells
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(p.script) // the report tells
	})
	mux.HandleFunc("GET /descriptors", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, descriptors) })
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			raw = []byte(err.Error())
		}
		p.reports <- string(raw)
	})
	p.server.Config.Handler = mux
	p.server.Start()
}

// How long a browser may take to ask for the page, and the page to report. On a busy machine a browser's start alone takes
// many seconds.
const (
	browserStarts = time.Minute
	pageReports   = 4 * time.Minute
)

// visit opens the page in a browser of its own, and returns its report. A browser that does not start is no fault of ours:
// as long as none has asked for the page, another one is tried.
func (p *browserPage) visit(t *testing.T, chromium, url string) string {
	t.Helper()
	const tries = 3
	before := p.asked.Load()
	for try := 1; ; try++ {
		report, out := p.open(t, chromium, url, func() bool { return p.asked.Load() > before })
		switch {
		case report != "":
			return report
		case p.asked.Load() > before:
			t.Fatalf("the page was loaded, and does not report\n%s", out)
		case try == tries:
			t.Fatalf("none of %d browsers asked for the page\n%s", tries, out)
		}
		t.Logf("browser %d did not ask for the page\n%s", try, out)
	}
}

// open is visit with one browser. report is empty if it ended, or was given up; out is what it wrote.
func (p *browserPage) open(t *testing.T, chromium, url string, asked func() bool) (report, out string) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(chromium, //nolint:gosec,noctx // Debian's; ended below
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
		"--disable-extensions", "--disable-sync", "--no-first-run", "--ignore-certificate-errors", "--user-data-dir="+filepath.Join(home, "profile"), url)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var wrote syncBuffer
	cmd.Stdout, cmd.Stderr = &wrote, &wrote
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed
	}()
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the whole group: it may have ended by itself
		<-ended
		leaveNothing(t, home)
	}()
	starts, late := time.NewTimer(browserStarts), time.NewTimer(pageReports)
	defer starts.Stop()
	defer late.Stop()
	for {
		select {
		case report = <-p.reports:
			return report, wrote.String()
		case <-starts.C:
			if !asked() {
				return "", wrote.String()
			}
		case <-ended:
			select {
			case report = <-p.reports: // its last act
			default:
			}
			return report, wrote.String()
		case <-late.C:
			return "", wrote.String()
		}
	}
}

// leaveNothing removes a browser's folder. Its crash handlers are in groups of their own, outlive it for a moment and write
// there meanwhile: they are those whose command line has the folder.
func leaveNothing(t *testing.T, home string) {
	t.Helper()
	waitFor(t, "the browser's last processes to end", func() bool {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, line := range lines {
			raw, err := os.ReadFile(line) //nolint:gosec // of a process; it may have ended
			if err != nil || !strings.Contains(string(raw), home) {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL) // as above
				left++
			}
		}
		return left == 0
	})
	waitFor(t, "the browser's folder to be removed", func() bool { return os.RemoveAll(home) == nil })
}
