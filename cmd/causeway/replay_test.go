package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// spy passes connections on to a server and keeps what the gateway sent on each.
type spy struct {
	address string
	mu      sync.Mutex
	sent    []*bytes.Buffer
}

func startSpy(t *testing.T, server string) *spy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	p := &spy{address: ln.Addr().String()}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() { p.pass(c, server) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		open.Wait()
	})
	return p
}

// pass ends when either side does.
func (p *spy) pass(c net.Conn, server string) {
	defer c.Close()                   //nolint:errcheck // it is over
	s, err := net.Dial("tcp", server) //nolint:noctx // loopback
	if err != nil {
		return
	}
	p.mu.Lock()
	kept := &bytes.Buffer{}
	p.sent = append(p.sent, kept)
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c, s)
		_ = c.Close()
	}()
	_, _ = io.Copy(s, io.TeeReader(c, locked{&p.mu, kept}))
	_ = s.Close()
	<-done
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// question is a request as one of those who read it understood it.
type question struct {
	Method, URI, Host string
	Forwarded         string // x-forwarded-uri
	Length            string // content-length
}

// overHTTP1 reads what was sent as the standard library does.
func (p *spy) overHTTP1(t *testing.T) (list []question) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sent := range p.sent {
		in := bufio.NewReader(bytes.NewReader(sent.Bytes()))
		for {
			r, err := http.ReadRequest(in)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("the standard library cannot read %q: %v", sent, err)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Fatalf("the standard library cannot read the body in %q: %v", sent, err)
			}
			list = append(list, question{r.Method, r.RequestURI, r.Host, r.Header.Get("X-Forwarded-Uri"), r.Header.Get("Content-Length")})
		}
	}
	return list
}

// overHTTP2 reads what was sent as x/net does.
func (p *spy) overHTTP2(t *testing.T) (list []question) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sent := range p.sent {
		rest, ok := bytes.CutPrefix(sent.Bytes(), []byte(http2.ClientPreface))
		if !ok {
			t.Fatalf("want the preface, found %q", sent)
		}
		fr := http2.NewFramer(io.Discard, bytes.NewReader(rest))
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			f, err := fr.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("x/net cannot read what was sent: %v", err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				list = append(list, question{Method: h.PseudoValue("method"), URI: h.PseudoValue("path"), Host: h.PseudoValue("authority")})
			}
		}
	}
	return list
}

// nginx is Debian's as a server of HTTP/1.1 that allows everything and one of HTTP/2 that has no gRPC service, with what it heard.
type nginx struct {
	t            *testing.T
	http1, http2 string
	log          string
	process      *exec.Cmd
	output       *syncBuffer
}

func startNginx(t *testing.T) *nginx {
	t.Helper()
	binary := realserver.Need(t, "nginx", "nginx-light")
	n := &nginx{t: t, output: &syncBuffer{}}
	dir := t.TempDir()
	var err error
	if n.http1, err = realserver.FreeAddress(); err == nil {
		n.http2, err = realserver.FreeAddress()
	}
	if err != nil {
		t.Fatal(err)
	}
	n.log = filepath.Join(dir, "heard")
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  log_format heard escape=json '{"port":"$server_port","Method":"$request_method","URI":"$request_uri","Host":"$http_host","Forwarded":"$http_x_forwarded_uri","Length":"$http_content_length"}';
  access_log heard heard;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen %s;
    location / { return 204; }
  }
  server {
    listen %s http2;
    default_type application/grpc;
    location / {
      add_header grpc-status 5 always;
      return 200;
    }
  }
}
`, n.http1, n.http2)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.process = exec.Command(binary, "-p", dir, "-e", "stderr", "-c", conf) //nolint:gosec,noctx // the binary that was looked for; it ends with the test
	n.process.Stdout, n.process.Stderr = n.output, n.output
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.process.Process.Kill()
		_ = n.process.Wait() // it was killed
		if t.Failed() {
			t.Logf("nginx: %s", n.output)
		}
	})
	for _, address := range []string{n.http1, n.http2} {
		waitFor(t, "nginx to listen", func() bool {
			c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", address)
			if err == nil {
				_ = c.Close() // it was only tried
			}
			return err == nil
		})
	}
	return n
}

// heard is what nginx took for requests, of HTTP/1.1 and of HTTP/2.
func (n *nginx) heard() (http1, http2 []question) {
	n.t.Helper()
	raw, err := os.ReadFile(n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var r struct {
			question
			Port string `json:"port"`
		}
		if !strings.HasSuffix(line, "\n") {
			break // the rest of it will come
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			n.t.Fatalf("%q: %v", line, err)
		}
		if strings.HasSuffix(n.http1, ":"+r.Port) {
			http1 = append(http1, r.question)
		} else {
			http2 = append(http2, r.question)
		}
	}
	return http1, http2
}

// What reaches a service, and the server that forward_auth asks, is one request for each of a caller's, however the caller
// wrote it: nginx, the standard library and x/net, who read the same bytes, find the same requests. The names are those of the
// threat table; the lesson of forward_auth is APISIX CVE-2024-32638.
func TestUpstreamsHearTheSameRequests(t *testing.T) {
	t.Parallel()
	n := startNginx(t)
	asked, service := startSpy(t, n.http1), startSpy(t, n.http2)
	g := startEcho(t, `  - name: forward_auth
    config: {url: "http://`+asked.address+`/check", request_headers: [authorization, cookie, x-a, te], send_body: true}
outbound: {allow: [127.0.0.1]}
`, service.address)
	const (
		body     = `{"text":"a"}`
		get      = "GET /v1/echo/a HTTP/1.1\r\nHost: x\r\n"
		post     = "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
		chunked  = post + "Transfer-Encoding: chunked\r\n\r\n"
		smuggled = "GET /v1/echo/smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
		last     = "GET /v1/echo/last?number=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	)
	length := func(body string) string { return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body }
	for _, tc := range []struct {
		name, request string
		asked, served int // of request and last
	}{
		{"S1 length and encoding", chunked[:len(chunked)-2] + "Content-Length: 5\r\n\r\n0\r\n\r\n", 0, 0},
		{"S2 an encoding that only looks so", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0, 0},
		{"S3 obs-fold", get + "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n", 0, 0},
		{"S4 bare LF", get + "X-A: b\nContent-Length: 50\r\n\r\n", 0, 0},
		{"S4 bare CR", get + "X-A: b\rContent-Length: 50\r\n\r\n", 0, 0},
		{"S6 two lengths", post + "Content-Length: 12\r\nContent-Length: 0\r\n\r\n" + body, 0, 0},
		{"S7 HTTP/1.0 with an encoding", "POST /v1/echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, 0},
		{"S8 another host in the target", "GET http://evil/v1/echo/a HTTP/1.1\r\nHost: x\r\n\r\n", 0, 0},
		{"S8 the same host in the target", "GET http://x/v1/echo/a HTTP/1.1\r\nHost: x\r\n\r\n", 2, 2},
		{"S9 an upgrade", get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 2, 2},
		{"S9 early bytes of another protocol", get + "Connection: Upgrade\r\nUpgrade: x\r\n" + length(smuggled), 2, 1},
		{"A3 Connection names what is forwarded", get + "Connection: X-A, Authorization, X-Forwarded-Uri, Content-Length\r\nX-A: b\r\nAuthorization: c\r\n\r\n", 2, 2},
		{"A2 what forward_auth says itself", get + "X-Forwarded-Uri: /public\r\nX-Forwarded-Method: HEAD\r\nX-Forwarded-Host: evil\r\n\r\n", 2, 2},
		{"headers that look like requests", get + "X-A: GET /smuggled HTTP/1.1\r\nAuthorization: \\r\\n\\r\\nGET / HTTP/1.1\r\nCookie: a=%0d%0a%0d%0aGET\r\n\r\n", 2, 2},
		{"bytes beyond ASCII", get + "X-A: \xc4\x8a\xc4\x8d\xff\xe5\x98\x8a\xe5\x98\x8d\r\nAuthorization: \xa0b\r\n\r\n", 2, 2},
		{"TE", get + "TE: trailers, chunked\r\n\r\n", 2, 2},
		{"an encoded line end", "GET /v1/echo/a%0d%0aX-A:%20b HTTP/1.1\r\nHost: x\r\n\r\n", 1, 1},
		{"a line end in the query", "GET /v1/echo/a?data=&number=1&text=%0d%0a%0d%0aGET%20/smuggled%20HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n", 2, 1},
		{"an odd query", "GET /v1/echo/a?number=1&fill=\"<>{}|^`'\\? HTTP/1.1\r\nHost: x\r\n\r\n", 2, 1},
		{"an odd path", "GET /v1/files/a;b=c/%41%2Fd@e:f HTTP/1.1\r\nHost: x:80\r\n\r\n", 2, 2},
		{"dot segments", "GET /v1/files/a/%2e%2e/b HTTP/1.1\r\nHost: x\r\n\r\n", 1, 1},
		{"an encoded slash and dots", "GET /v1/files/a%2F..%2Fb HTTP/1.1\r\nHost: x\r\n\r\n", 2, 2},
		{"a body of GET", get + length(smuggled), 2, 1},
		{"a body that is a request", post + length(smuggled), 2, 1},
		{"a body that ends one", post + length("0\r\n\r\n"+smuggled), 2, 1},
		{"chunks that are a request", chunked + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), 2, 1},
		{"S5 many chunks with extensions", chunked + "1;a=b\r\n{\r\n001\r\n}\r\n0;c\r\n\r\n", 2, 2},
		{"S5 trailers", chunked + "2\r\n{}\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\nX-Forwarded-Uri: /public\r\n\r\n", 2, 2},
		{"S5 a chunk that lies", chunked + "0xc\r\n" + body + "\r\n0\r\n\r\n" + smuggled, 0, 0},
		{"an empty body", post + "Content-Length: 0\r\n\r\n", 2, 2},
		{"HTTP/1.0", "GET /v1/echo/a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", 2, 2},
		{"Expect", post + "Expect: 100-continue\r\n" + length(body), 2, 2},
		{"another method", "TRACE /v1/echo/a HTTP/1.1\r\nHost: x\r\n\r\n", 1, 1},
	} {
		wasAsked, wasServed := len(asked.overHTTP1(t)), len(service.overHTTP2(t))
		conn := dialed(t, strings.TrimPrefix(g.url, "http://"))
		if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tc.request+last); err != nil {
			t.Fatal(err)
		}
		answers, err := io.ReadAll(conn) // to the end of the connection
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if a, s := len(asked.overHTTP1(t))-wasAsked, len(service.overHTTP2(t))-wasServed; a != tc.asked || s != tc.served {
			t.Errorf("%s: want %d questions and %d calls, found %d and %d; answers %q", tc.name, tc.asked, tc.served, a, s, answers)
		}
	}
	g.end() // so that all has been said, and nginx has heard it
	questions, calls := asked.overHTTP1(t), service.overHTTP2(t)
	waitFor(t, "nginx to have heard all", func() bool {
		a, s := n.heard()
		return len(a) >= len(questions) && len(s) >= len(calls)
	})
	if err := n.process.Process.Signal(syscall.SIGQUIT); err != nil { // it ends when it has said all
		t.Fatal(err)
	}
	_ = n.process.Wait() // by a signal
	heardQuestions, heardCalls := n.heard()
	order := func(a, b question) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
	for _, l := range [][]question{questions, calls, heardQuestions, heardCalls} {
		slices.SortFunc(l, order)
	}
	if !slices.Equal(questions, heardQuestions) {
		t.Errorf("the standard library read %d questions, nginx %d:\n%q\n%q", len(questions), len(heardQuestions), questions, heardQuestions)
	}
	if !slices.Equal(calls, heardCalls) {
		t.Errorf("x/net read %d calls, nginx %d:\n%q\n%q", len(calls), len(heardCalls), calls, heardCalls)
	}
	for _, l := range [][]question{questions, calls} {
		for _, h := range l {
			if strings.Contains(h.URI+h.Host+h.Forwarded, "smuggled") && !strings.Contains(h.Forwarded, "?") || h.Forwarded == "/public" || h.Host == "evil" {
				t.Errorf("found %q", h)
			}
		}
	}
	t.Logf("%d questions and %d calls are the same to all", len(questions), len(calls))
}
