package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestLoad runs the load against net/http servers that answer right, wrong and not at all.
func TestLoad(t *testing.T) {
	all, err := newCalls()
	if err != nil {
		t.Fatal(err)
	}
	post := all.post
	for _, tt := range []struct {
		name  string
		set   func(*load)
		serve func(w http.ResponseWriter, n int64)
		want  string // part of the error, empty for none
	}{
		{
			name:  "closed loop",
			serve: func(w http.ResponseWriter, _ int64) { _, _ = w.Write(post.answer) },
		},
		{
			name: "chunked",
			serve: func(w http.ResponseWriter, _ int64) {
				_, _ = w.Write(post.answer[:100])
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(post.answer[100:])
			},
		},
		{
			name:  "constant rate",
			set:   func(l *load) { l.rate, l.latency = 500, true },
			serve: func(w http.ResponseWriter, _ int64) { _, _ = w.Write(post.answer) },
		},
		{
			name: "wrong status",
			serve: func(w http.ResponseWriter, n int64) {
				if n == 50 {
					w.WriteHeader(http.StatusBadGateway)
				}
				_, _ = w.Write(post.answer)
			},
			want: "unexpected answer: status 502, want 200",
		},
		{
			name: "wrong body",
			serve: func(w http.ResponseWriter, n int64) {
				_, _ = w.Write(post.answer[:len(post.answer)-1])
				if n == 50 {
					_, _ = w.Write([]byte("]"))
				} else {
					_, _ = w.Write([]byte("}"))
				}
			},
			want: "unexpected answer: status 200, want 200",
		},
		{
			name: "connection closed",
			serve: func(w http.ResponseWriter, n int64) {
				if n == 50 {
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(post.answer)
			},
			want: "connection closed with 0 bytes of an answer read: EOF",
		},
		{
			name: "connection closed after an answer",
			serve: func(w http.ResponseWriter, n int64) {
				if n == 50 {
					w.Header().Set("Connection", "close")
				}
				_, _ = w.Write(post.answer)
			},
			want: "the connection is closed after an answer with status 200",
		},
	} {
		for _, secure := range []bool{false, true} {
			name := tt.name
			if secure {
				name += " over TLS"
			}
			t.Run(name, func(t *testing.T) {
				var served atomic.Int64
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil || !bytes.Equal(body, post.body) || len(r.Header.Get("Authorization")) < 300 {
						t.Errorf("the request arrived as %v %q (%v)", r.Header, body, err)
					}
					tt.serve(w, served.Add(1))
				}))
				l := &load{
					call: post, body: post.answer, conns: 4, blocking: secure, pid: os.Getpid(),
					warm: 20 * time.Millisecond, measure: 200 * time.Millisecond,
				}
				if secure {
					cert, err := newCertificate(t.TempDir())
					if err != nil {
						t.Fatal(err)
					}
					l.tls = cert.client
					pair, err := tls.LoadX509KeyPair(cert.certFile, cert.keyFile)
					if err != nil {
						t.Fatal(err)
					}
					s.TLS = serverTLS(&pair)
					s.StartTLS()
				} else {
					s.Start()
				}
				defer s.Close()
				l.address = s.Listener.Addr().String()
				l.request = newRequest(post, l.address, timeoutHeader{"X-Request-Timeout", "9.", "s"})
				if tt.set != nil {
					tt.set(l)
				}
				out, err := l.run(t.Context())
				switch {
				case tt.want == "" && err != nil:
					t.Fatal(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					// Over TLS the end of the stream may be told in other words.
					if secure && err != nil && strings.HasPrefix(tt.want, "connection closed") {
						return
					}
					t.Fatalf("error %v, want %s", err, tt.want)
				case tt.want != "":
					return
				}
				if out.calls == 0 || int64(out.calls) > served.Load() || out.cpu.total <= 0 || out.took < l.measure {
					t.Errorf("measured %+v, served %d", out, served.Load())
				}
				if l.rate > 0 && (out.calls < 50 || out.calls > 150 || len(out.latency) != out.calls) {
					t.Errorf("%d calls and %d latencies in 0.2 s at 500 calls per second", out.calls, len(out.latency))
				}
			})
		}
	}
}

// TestRequestsDiffer shows that deadline and trace context differ from call to call and stay well formed.
func TestRequestsDiffer(t *testing.T) {
	all, err := newCalls()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*call{all.post, all.get, all.list, all.fault, all.ndjson, all.web, all.con} {
		r := newRequest(c, "127.0.0.1:1", timeoutHeader{"Grpc-Timeout", "9", "u"})
		seen := map[string]bool{}
		for n := range uint64(3) {
			r.vary(n*1_000_003, n, n)
			req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.bytes)))
			if err != nil {
				t.Fatal(err)
			}
			timeout, trace := cmp.Or(req.Header.Get("Grpc-Timeout"), req.Header.Get("Connect-Timeout-Ms")), req.Header.Get("Traceparent")
			if len(timeout) < 7 || len(timeout) > 8 || len(trace) != 55 || seen[timeout] || seen[trace] {
				t.Errorf("%s: timeout %q, traceparent %q", c.target, timeout, trace)
			}
			seen[timeout], seen[trace] = true, true
			if body, err := io.ReadAll(req.Body); err != nil || !bytes.Equal(body, c.body) {
				t.Errorf("%s: body %q (%v)", c.target, body, err)
			}
			if size, err := requestSize(r.bytes); err != nil || size != len(r.bytes) {
				t.Errorf("%s: the floor reads %d of %d bytes (%v)", c.target, size, len(r.bytes), err)
			}
		}
	}
}

// FuzzAnswer holds the load's parser against net/http: what it takes as an answer, net/http reads the same way.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 404 Not Found\r\ncontent-length:  0 \r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 2\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p answerParser
		a, size, err := p.parse(b)
		if err != nil || size == 0 {
			return
		}
		if size > len(b) {
			t.Fatalf("%d of %d bytes", size, len(b))
		}
		// No body at all and a body of unknown length mean something else to net/http: such answers are never sent here.
		if a.status < 200 || a.status == 204 || a.status == 304 {
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return // net/http is stricter with names, values and sizes
		}
		body, err := io.ReadAll(want.Body)
		if err != nil {
			return
		}
		if want.StatusCode != a.status || !bytes.Equal(body, a.body) {
			t.Fatalf("got %d %q, net/http %d %q", a.status, a.body, want.StatusCode, body)
		}
	})
}

// TestLoadStalls shows that a run against a server that does not answer ends, with and without a rate.
func TestLoadStalls(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the bound on a stall twice")
	}
	all, err := newCalls()
	if err != nil {
		t.Fatal(err)
	}
	for _, rate := range []int{0, 100} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // connections wait in its backlog for ever
		if err != nil {
			t.Fatal(err)
		}
		l := &load{
			address: ln.Addr().String(), call: all.post, conns: 2, rate: rate, pid: os.Getpid(), measure: 50 * time.Millisecond,
			request: newRequest(all.post, ln.Addr().String(), timeoutHeader{"X-Request-Timeout", "9.", "s"}),
		}
		if _, err := l.run(t.Context()); err == nil || err.Error() != "no answer for 10s, 2 calls under way" {
			t.Errorf("rate %d: error %v", rate, err)
		}
		_ = ln.Close()
	}
}
