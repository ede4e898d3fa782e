package http1

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
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// script is a connection whose client says what it has to say, piece by piece, and leaves.
type script struct {
	net.Conn
	in   []byte
	step int
	out  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.in)
	s.in = s.in[n:]
	return n, nil
}
func (s *script) Write(p []byte) (int, error)   { return s.out.Write(p) }
func (*script) Close() error                    { return nil }
func (*script) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (*script) SetReadDeadline(time.Time) error { return nil }

// request of a fuzz run, as ours or net/http's.
type fuzzed struct {
	Method, Target, Host, Body string
	Whole                      bool
	Unread                     bool // nobody looked at the body
	Header                     map[string][]string
}

// served runs requests through a connection, and returns what the handler saw, the refusals and what was written.
func served(in []byte, step int, unread bool, answer func(*wire.Exchange)) (seen []fuzzed, refused []int, out []byte) {
	s := &script{in: slices.Clone(in), step: step}
	h := &collector{unread: unread, answer: answer}
	p := New(Limits{}, h)
	c := p.NewConn(s, nil, nil, h)
	c.Serve()
	return h.seen, h.refused, s.out.Bytes()
}

type collector struct {
	seen    []fuzzed
	refused []int
	unread  bool
	answer  func(*wire.Exchange)
}

func (c *collector) Refused(_ netip.AddrPort, status int, _ string) {
	c.refused = append(c.refused, status)
}

func (c *collector) ServeExchange(_ context.Context, x *wire.Exchange) {
	target := x.HTTP.Path
	if x.HTTP.Query != "" {
		target += "?" + x.HTTP.Query
	}
	r := fuzzed{Method: x.HTTP.Method, Target: target, Host: x.HTTP.Host, Header: map[string][]string{}}
	for _, p := range x.HTTP.Header {
		k := http.CanonicalHeaderKey(p.Key)
		r.Header[k] = append(r.Header[k], p.Value)
	}
	var body []byte
	r.Unread = c.unread
	if !c.unread {
		var err error
		body, err = io.ReadAll(x)
		r.Body, r.Whole = string(body), err == nil
	}
	c.seen = append(c.seen, r)
	if c.answer != nil {
		c.answer(x)
		return
	}
	_ = x.Respond(200, nil, body)
}

// standard is what net/http makes of the next request of a stream.
func standard(r *bufio.Reader) (fuzzed, *http.Request, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return fuzzed{}, nil, err
	}
	name, _, _ := splitHost(strings.ToLower(req.Host))
	target := req.RequestURI
	if !strings.HasPrefix(target, "/") && target != "*" {
		_, rest, _ := strings.Cut(target, "://")
		target = "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			if target = rest[i:]; target[0] == '?' {
				target = "/" + target
			}
		}
	}
	if path, query, _ := strings.Cut(target, "?"); query == "" {
		target = path // an empty query is none here
	}
	f := fuzzed{Method: req.Method, Target: target, Host: name, Header: req.Header}
	delete(req.Header, "Trailer")
	body, err := io.ReadAll(req.Body)
	f.Body, f.Whole = string(body), err == nil
	return f, req, nil
}

// agree holds that what was served means the same to net/http. net/http may refuse what cannot be a URL to it; there the
// comparison ends.
func agree(t *testing.T, in []byte, seen []fuzzed) {
	t.Helper()
	r := bufio.NewReaderSize(bytes.NewReader(in), len(in)+16)
	for i, ours := range seen {
		theirs, _, err := standard(r)
		if err != nil {
			if text := err.Error(); strings.Contains(text, "parse ") || strings.Contains(text, "malformed Host") ||
				strings.Contains(text, "bad trailer key") { // trailers are dropped here, whatever is announced
				return
			}
			t.Fatalf("request %d: served, and net/http refuses it: %v\n%q", i, err, in)
		}
		delete(ours.Header, "Trailer")
		if p := theirs.Header["Pragma"]; len(p) > 0 && p[0] == "no-cache" && ours.Header["Cache-Control"] == nil {
			delete(theirs.Header, "Cache-Control") // net/http adds it
		}
		if ours.Unread {
			if !theirs.Whole && i+1 < len(seen) {
				t.Fatalf("request %d: served another behind a body that is not whole\n%q", i, in)
			}
			ours.Body, ours.Whole, ours.Unread = theirs.Body, theirs.Whole, false
		}
		if !ours.Whole && !theirs.Whole {
			ours.Body = theirs.Body
		} else if !ours.Whole {
			return // ours is stricter
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("request %d: net/http (-) and ours (+) differ:\n%s\n%q", i, diff, in)
		}
	}
}

// wellFormed holds that what was written is answers and nothing else, one for each request.
func wellFormed(t *testing.T, out []byte, seen []fuzzed, refused int) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(out))
	for i := range len(seen) + refused {
		method := "GET"
		if i < len(seen) {
			method = seen[i].Method
		}
		if i >= len(seen) && bytes.HasSuffix(out, []byte("\r\n\r\n")) {
			method = "HEAD" // refused, and known to want no body
		}
		for status := 100; status == 100; {
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("answer %d of %d: %v in %q", i, len(seen)+refused, err, out)
			}
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Fatalf("answer %d: %v in %q", i, err, out)
			}
			_ = resp.Body.Close() // read to its end
			status = resp.StatusCode
		}
	}
	if rest, _ := io.ReadAll(r); len(rest) != 0 {
		t.Fatalf("%q after the last answer", rest)
	}
}

var heads = []string{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /a?b HTTP/1.1\r\nHost: X.com:80\r\nContent-Length: 3\r\nConnection: keep-alive, TE\r\nTE: trailers\r\n\r\n",
	"GET http://x/a?b HTTP/1.1\r\nHost: x:80\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
	"GET /a HTTP/1.0\r\n\r\n",
	"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nA:\r\nA: \t b \xe9\t\r\nx_y: c\r\nPragma: no-cache\r\n\r\n",
	"GET /a?? HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\nPragma: no-cache\r\n\r\n",
	"GET /?? HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: trailer\r\n\r\n0\r\n\r\n",
	"GET http://X??/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chun\u212aed\r\n\r\n", "CONNECT /a? HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET / HTTP/1.2\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost: x\r\n a\r\n\r\n",
	"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01",
}

// FuzzHead: a head that is taken has one meaning, the same as net/http's, whatever pieces it comes in.
func FuzzHead(f *testing.F) {
	for _, h := range heads {
		f.Add([]byte(h))
	}
	for _, row := range mutations(f) {
		f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\n" + row + "\r\n\r\n"))
	}
	lim := Limits{}.withDefaults()
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, end, ref := parsed(in, len(in), &lim)
		pieces, end1, ref1 := parsed(in, 1, &lim)
		if end != end1 || (ref == nil) != (ref1 == nil) || ref != nil && *ref != *ref1 {
			t.Fatalf("whole: %d %v, byte by byte: %d %v", end, ref, end1, ref1)
		}
		if ref != nil {
			if ref.status < 400 || ref.reason == "" || ref.message == "" || !json.Valid(ref.appendBody(nil)) {
				t.Errorf("found %+v", ref)
			}
			return
		}
		if end == 0 {
			return
		}
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Fatal(diff)
		}
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in[:end]))); err == nil {
			name, _, _ := splitHost(strings.ToLower(r.Host))
			if r.Method != whole.Method || name != whole.Host {
				t.Errorf("net/http: %s %s, ours: %s %s", r.Method, name, whole.Method, whole.Host)
			}
		}
		for _, p := range whole.Header {
			if p.Key == "" || p.Key != strings.ToLower(p.Key) || strings.ContainsAny(p.Value, "\r\n\x00") || !bytes.Contains(in, []byte(p.Value)) {
				t.Errorf("found header %q", p)
			}
		}
	})
}

// parsed takes a head apart that comes in pieces of that size.
func parsed(in []byte, step int, lim *Limits) (h rpc.HTTP, end int, ref *refusal) {
	in = slices.Clone(in)
	var s scanner
	for n := min(step, len(in)); ; n = min(n+step, len(in)) {
		if end, ref = s.next(in[:n], lim); end > 0 || ref != nil || n == len(in) {
			break
		}
	}
	if end == 0 || ref != nil {
		return h, 0, ref
	}
	var r request
	ref = r.parse(in[:end], &h, lim)
	clear(in) // nothing of it may show
	return h, end, ref
}

var bodies = []string{
	"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n00\r\n\r\n", "A\r\n0123456789\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", "0\r\n\r\n",
	"5\nhello\n0\n\n", "0x1\r\na\r\n0\r\n\r\n", "1 \r\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "1\r\naXX0\r\n\r\n", "ffffffffffffffff\r\n", "1\r\na", "",
	"1\r\na\r\n0\r\nA: b\r\n c\r\n\r\n", "1;\r\na\r\n0;\"\r\n\r\n", "-1\r\n", "1\r\na\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
}

// FuzzChunked: a chunked body that is taken whole is the one that net/http reads, and what follows it begins at the same
// place.
func FuzzChunked(f *testing.F) {
	for i, b := range bodies {
		f.Add([]byte(b), byte(i*7))
	}
	f.Fuzz(func(t *testing.T, body []byte, step byte) {
		in := slices.Concat([]byte("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), body)
		seen, refused, out := served(in, int(step)+1, false, nil)
		agree(t, in, seen)
		if len(seen) == 0 {
			t.Fatal("want the head taken")
		}
		wellFormed(t, out, seen, len(refused))
	})
}

// FuzzConn: of several requests on one connection, each that is served is the one that net/http sees there.
func FuzzConn(f *testing.F) {
	for i, h := range heads {
		f.Add([]byte(h+heads[(i+1)%len(heads)]), byte(i*17), byte(i))
		f.Add([]byte(heads[6]+bodies[i%len(bodies)]+h), byte(i*29), byte(i))
		f.Add([]byte(heads[1]+"abc"+h), byte(i*31), byte(i))
	}
	for i, row := range mutations(f) {
		f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\n"+row+"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"+heads[0]), byte(200), byte(i))
		f.Add([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n"+row+"\r\n\r\n0\r\n\r\nX"+heads[0]), byte(200), byte(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, step, how byte) {
		if bytes.Contains(bytes.ToLower(in), []byte("expect:")) {
			how = 0 // whether the answer comes before the body decides about the connection
		}
		var answer func(x *wire.Exchange)
		if how&1 != 0 {
			answer = func(x *wire.Exchange) {
				_ = x.WriteHead(200, nil)
				_ = x.Write([]byte(x.HTTP.Path))
				_ = x.End(rpc.Metadata{{Key: "x-a", Value: "b"}})
			}
		}
		seen, refused, out := served(in, int(step)+1, how&2 != 0, answer)
		agree(t, in, seen)
		wellFormed(t, out, seen, len(refused))
		if len(refused) > 1 {
			t.Errorf("want one refusal at most, found %v", refused)
		}
	})
}

// mutations are the spellings of Transfer-Encoding that parsers disagree about.
func mutations(f *testing.F) (headers []string) {
	f.Helper()
	text, err := os.ReadFile("testdata/transfer-encoding-mutations.json")
	if err != nil {
		f.Fatal(err)
	}
	var rows []struct{ Header string }
	if err := errors.Join(json.Unmarshal(text, &rows)); err != nil {
		f.Fatal(err)
	}
	for _, r := range rows {
		var b []byte
		for _, c := range r.Header {
			b = append(b, byte(c))
		}
		headers = append(headers, string(b))
	}
	return headers
}

// expiring is a connection on which deadlines pass that were meant for an earlier read.
type expiring struct {
	script
	fails   int
	cleared int
}

func (e *expiring) Read(p []byte) (int, error) {
	if e.fails--; e.fails >= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return e.script.Read(p)
}
func (e *expiring) SetReadDeadline(time.Time) error { e.cleared++; return nil }

// A deadline that passes in another state than it was set in is overheard; one that is meant is not.
func TestOverheardDeadlines(t *testing.T) {
	e := &expiring{script: script{in: []byte("abc"), step: 10}, fails: 3}
	c := New(Limits{}, nil).NewConn(e, nil, nil, nil).(*conn)
	buf := make([]byte, 10)
	c.cutAt.Store(inBody + 1)
	if n, err := c.read(buf); n != 3 || err != nil || e.cleared != 3 {
		t.Errorf("want it read after three deadlines, found %d %v, %d cleared", n, err, e.cleared)
	}
	e.fails = 1
	c.enter(inBody)
	if _, err := c.read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("want the deadline, found %v", err)
	}
	// One that is meant comes just when another is cleared.
	c.enter(inCall)
	e.fails = 1
	race := &raced{expiring: e, c: c}
	c.raw, c.nc = race, race
	if _, err := c.read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("want the deadline, found %v", err)
	}
}

// raced is a connection whose sweeper ends the read while a deadline is cleared.
type raced struct {
	*expiring
	c *conn
}

func (r *raced) SetReadDeadline(time.Time) error {
	r.c.cutAt.Store(r.c.state.Load() + 1)
	return nil
}

// counted counts what is read of what a client goes on sending.
type counted struct {
	script
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.script.Read(p)
	c.read += n
	return n, err
}

// Of a body that nobody reads no more than 64 KiB is taken, whether before the answer, behind it or while its client leaves.
func TestUnreadBodyIsBounded(t *testing.T) {
	for name, request := range map[string]string{
		"large length":       "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + strings.Repeat("a", 900_000),
		"large chunk":        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ndbba0\r\n" + strings.Repeat("a", 900_000),
		"small chunks":       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("10\r\n0123456789abcdef\r\n", 40_000),
		"behind a malformed": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n" + strings.Repeat("a", 900_000),
	} {
		for how, answer := range map[string]func(x *wire.Exchange){
			"whole": func(x *wire.Exchange) { _ = x.Respond(413, nil, nil) },
			"in pieces": func(x *wire.Exchange) {
				_ = x.WriteHead(413, nil)
				_ = x.End(nil)
			},
		} {
			s := &counted{script: script{in: []byte(request), step: 4 << 10}}
			New(Limits{}, nil).NewConn(s, nil, nil, &collector{unread: true, answer: answer}).Serve()
			if !bytes.Contains(s.out.Bytes(), []byte("HTTP/1.1 4")) {
				t.Errorf("%s, %s: found %q", name, how, s.out.Bytes())
			}
			// What had come with the head, and the framing of chunks, is beside it.
			if most := maxUnread + maxUnread/2 + smallBuffer; s.read > most {
				t.Errorf("%s, %s: want at most %d bytes read, found %d", name, how, most, s.read)
			}
		}
	}
}

func TestSplitHost(t *testing.T) {
	for h, want := range map[string]string{
		"a": "a ", "a.b:80": "a.b 80", "a.": "a ", "a.:80": "a 80", "[::1]": "[::1] ", "[::1]:80": "[::1] 80", "127.0.0.1:8080": "127.0.0.1 8080",
		"a:": "a ", "a_b-c~": "a_b-c~ ", "": "!", ".": "!", "a..": "!", ".a": "!", "a:b": "!", "a:123456": "!", "[::1": "!", "[::1]80": "!", "[127.0.0.1]": "!",
		"::1": "!", "a@b": "!", "a/b": "!", "a b": "!", "a,b": "!", "\xe9": "!", "[]": "!", "a%41": "!",
	} {
		name, port, ok := splitHost(h)
		got := fmt.Sprintf("%s %s", name, port)
		if !ok {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: want %q, found %q", h, want, got)
		}
	}
}
