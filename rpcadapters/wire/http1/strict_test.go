package http1_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const post = "POST /upload HTTP/1.1\r\nHost: x\r\n"

// second is a request that must not be served when it follows something doubtful.
const second = "GET /smuggled HTTP/1.1\r\nHost: y\r\n\r\n"

// Everything that could be read in two ways is refused, ends the connection, and nothing of it is handed on. Names are the
// rows of the threat table that the cases belong to.
func TestRefusesWhatIsDoubtful(t *testing.T) {
	long := strings.Repeat("a", 9000)
	for _, c := range []struct {
		name, request, want string
	}{
		{"S1 CL and TE", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "400 MALFORMED_FRAMING"},
		{"S1 TE and CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + second, "400 MALFORMED_FRAMING"},
		{"S2 xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 chunked, identity", post + "Transfer-Encoding: chunked, identity\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 identity, chunked", post + "Transfer-Encoding: identity, chunked\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 gzip", post + "Transfer-Encoding: gzip\r\n\r\n", "501 UNSUPPORTED_ENCODING"},
		{"S2 identity", post + "Transfer-Encoding: identity\r\n\r\n", "501 UNSUPPORTED_ENCODING"},
		{"S2 empty", post + "Transfer-Encoding:\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 twice in one", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 vertical tab", post + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S2 space before colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S2 quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S2 the sign of Kelvin", post + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n" + second, "501 UNSUPPORTED_ENCODING"},
		{"S2 the sign of Kelvin and CL", post + "Content-Length: 3\r\nTransfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", "501 UNSUPPORTED_ENCODING"},
		{"S3 obs-fold", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S3 obs-fold by tab", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S3 obs-fold in TE", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S3 obs-fold first", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 bare LF everywhere", "GET / HTTP/1.1\nHost: x\n\n", "400 MALFORMED_REQUEST"},
		{"S4 bare LF after a field", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 bare LF at the end", "GET / HTTP/1.1\r\nHost: x\r\n\n", "400 MALFORMED_REQUEST"},
		{"S4 bare CR", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc: d\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 bare CR in the request line", "GET /\rx HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 two CR", "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S4 DEL", "GET / HTTP/1.1\r\nHost: x\r\nA: 12345678\x7f\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S6 equal duplicates", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400 MALFORMED_FRAMING"},
		{"S6 two values", post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "400 MALFORMED_FRAMING"},
		{"S6 list", post + "Content-Length: 3, 3\r\n\r\nabc", "400 MALFORMED_FRAMING"},
		{"S6 plus", post + "Content-Length: +2\r\n\r\nab", "400 MALFORMED_FRAMING"},
		{"S6 minus", post + "Content-Length: -2\r\n\r\nab", "400 MALFORMED_FRAMING"},
		{"S6 hex", post + "Content-Length: 0x2\r\n\r\nab", "400 MALFORMED_FRAMING"},
		{"S6 2^64", post + "Content-Length: 18446744073709551616\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S6 2^63", post + "Content-Length: 9223372036854775808\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S6 empty", post + "Content-Length:\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S6 space inside", post + "Content-Length: 1 2\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S7 1.0 and TE", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 MALFORMED_FRAMING"},
		{"S7 1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "505 UNSUPPORTED_VERSION"},
		{"S7 2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505 UNSUPPORTED_VERSION"},
		{"S7 0.9", "GET /\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S7 lower case", "GET / http/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S7 1.10", "GET / HTTP/1.10\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S7 space after", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 no host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 absolute target of another host", "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 absolute target of another port", "GET http://x:81/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 user in the host", "GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 user in the target", "GET http://a@x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 path in the host", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 two ports", "GET / HTTP/1.1\r\nHost: x:80:81\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 port of letters", "GET / HTTP/1.1\r\nHost: x:http\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 list of hosts", "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 empty label", "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 another scheme", "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 host that folds to another", "GET / HTTP/1.1\r\nHost: \u212aiss\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 target that folds to the host", "GET http://k\u0130ss/ HTTP/1.1\r\nHost: kiss\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 target whose end folds", "GET http://\u212aiss/ HTTP/1.1\r\nHost: kiss\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S8 scheme that folds", "GET http\u017f://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"S9 CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "405 METHOD_NOT_ALLOWED"},
		{"S12 long target", "GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", "414 URI_TOO_LONG"},
		{"S12 endless target", "GET /" + long, "414 URI_TOO_LONG"},
		{"S12 101 fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 100) + "\r\n", "431 HEADERS_TOO_LARGE"},
		{"S12 10,000 fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", "431 HEADERS_TOO_LARGE"},
		{"S12 10,000 cookies", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("Cookie: a=b\r\n", 10_000) + "\r\n", "431 HEADERS_TOO_LARGE"},
		{"S12 65 KiB", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("b", 65<<10) + "\r\n\r\n", "431 HEADERS_TOO_LARGE"},
		{"S12 10,000 query parameters", "GET /?" + strings.Repeat("a=b&", 10_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414 URI_TOO_LONG"},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"space first", " GET / HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"TLS on a plain port", "\x16\x03\x01\x02\x00\x01", "400 MALFORMED_REQUEST"},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"tab", "GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"space in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"relative target", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"star of another method", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"method with a bracket", "G[T / HTTP/1.1\r\nHost: x\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"long method", strings.Repeat("G", 65) + " / HTTP/1.1\r\nHost: x\r\n\r\n", "501 UNKNOWN_METHOD"},
		{"field without colon", "GET / HTTP/1.1\r\nHost: x\r\nAb\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"field without name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"space in a name", "GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", "400 MALFORMED_REQUEST"},
		{"other expectation", post + "Expect: 200-maybe\r\nContent-Length: 1\r\n\r\n", "417 EXPECTATION_FAILED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			var ref refusals
			_, address := setup{refused: &ref}.serve(t, &r)
			answer := raw(t, address, c.request)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.want[:3]+" ") || strings.Count(answer, "HTTP/1.1 ") != 1 {
				t.Errorf("want %s and the end of the connection, found %q", c.want, answer)
			}
			if !strings.Contains(answer, "\r\nConnection: close\r\n") || !strings.Contains(answer, "\r\nX-Request-Id: ") {
				t.Errorf("want connection and request id in it, found %q", answer)
			}
			if ref.last() != c.want {
				t.Errorf("want the refusal reported as %q, found %q", c.want, ref.last())
			}
			if got := r.all(); len(got) != 0 {
				t.Errorf("want nothing handed on, found %+v", got)
			}
		})
	}
}

// What is wrong in a chunked body is found while it is read: its reader gets an error, its sender 400 and the end.
func TestRefusesMalformedChunks(t *testing.T) {
	head := post + "Transfer-Encoding: chunked\r\n\r\n"
	for name, body := range map[string]string{
		"S5 LF after the size":          "5\nhello\r\n0\r\n\r\n",
		"S5 0x1":                        "0x1\r\na\r\n0\r\n\r\n",
		"S5 plus":                       "+1\r\na\r\n0\r\n\r\n",
		"S5 space before the size":      " 1\r\na\r\n0\r\n\r\n",
		"S5 space after the size":       "1 \r\na\r\n0\r\n\r\n",
		"S5 tab after the size":         "1\t\r\na\r\n0\r\n\r\n",
		"S5 no CR LF after data":        "1\r\na0\r\n\r\n",
		"S5 LF after data":              "1\r\na\n0\r\n\r\n",
		"S5 other bytes after data":     "1\r\naXX0\r\n\r\n",
		"S5 CR and another after data":  "1\r\na\rX0\r\n\r\n",
		"S5 too much data":              "1\r\nab\r\n0\r\n\r\n",
		"S5 no size":                    "\r\na\r\n0\r\n\r\n",
		"S5 2^64":                       "10000000000000001\r\na\r\n0\r\n\r\n",
		"S5 zeros":                      "0000000000000001\r\na\r\n0\r\n\r\n",
		"S5 long extension":             "1;" + strings.Repeat("a", 1100) + "\r\na\r\n0\r\n\r\n",
		"S5 extensions, all together":   strings.Repeat("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n", 30) + "0\r\n\r\n",
		"S5 endless size":               strings.Repeat("0", 3000),
		"S5 LF in an extension":         "1;a\nb\r\na\r\n0\r\n\r\n",
		"S5 CR in an extension":         "1;a\rb\r\na\r\n0\r\n\r\n",
		"S5 LF after the last":          "1\r\na\r\n0\n\r\n",
		"S5 LF at the end":              "1\r\na\r\n0\r\n\n",
		"S5 minus":                      "-1\r\na\r\n0\r\n\r\n",
		"trailer of no name":            "0\r\n: a\r\n\r\n",
		"trailer that is folded":        "0\r\na: b\r\n c\r\n\r\n",
		"trailer with NUL":              "0\r\na: \x00\r\n\r\n",
		"trailer section of many bytes": "0\r\n" + strings.Repeat("a: bbbbbbbbbbbbbbbbbbbbbbbb\r\n", 400) + "\r\n",
		"trailer of many bytes":         "0\r\na: " + strings.Repeat("b", 9000) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var r recorder
			_, address := setup{}.serve(t, &r)
			answer := raw(t, address, head+body+second)
			if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || strings.Count(answer, "HTTP/1.1 ") != 1 || !strings.Contains(answer, "\r\nConnection: close\r\n") {
				t.Errorf("want 400 and the end of the connection, found %q", answer)
			}
			if got := r.all(); len(got) != 1 || !strings.Contains(got[0].Err, "malformed") {
				t.Errorf("want one exchange whose body is malformed, found %+v", got)
			}
		})
	}
}

// What is unusual and has one meaning is served.
func TestServesWhatIsUnusual(t *testing.T) {
	many := strings.Repeat("A: b\r\n", 99)
	for _, c := range []struct {
		name, request string
		want          seen
	}{
		{"chunk extensions", post + "Transfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d\"\r\nab\r\n0;x\r\n\r\n", seen{Method: "POST", Host: "x", Path: "/upload", Body: "ab", Length: -1}},
		{"upper case chunked", post + "Transfer-Encoding: CHUNKED\r\n\r\nA\r\n0123456789\r\n00\r\n\r\n", seen{Method: "POST", Host: "x", Path: "/upload", Body: "0123456789", Length: -1}},
		{"trailers are dropped", post + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Consumer: root\r\nContent-Length: 7\r\n\r\n", seen{Method: "POST", Host: "x", Path: "/upload", Body: "a", Length: -1}},
		{"absolute target", "GET HTTP://X.com:80/a?b HTTP/1.1\r\nHost: x.com\r\n\r\n", seen{Method: "GET", Host: "x.com", Path: "/a", Query: "b"}},
		{"absolute target without path", "GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "GET", Host: "x", Path: "/"}},
		{"absolute target with query alone", "GET http://x?b HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "GET", Host: "x", Path: "/", Query: "b"}},
		{"host in capitals with port and dot", "GET / HTTP/1.1\r\nHost: API.Example.com.:8080\r\n\r\n", seen{Method: "GET", Host: "api.example.com", Path: "/"}},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", seen{Method: "GET", Host: "[::1]", Path: "/"}},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "OPTIONS", Host: "x", Path: "*"}},
		{"path as it is", "GET /a%2Fb//../c;d?e?f&g HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "GET", Host: "x", Path: "/a%2Fb//../c;d", Query: "e?f&g"}},
		{"tokens that only Unicode folds", "GET / HTTP/1.1\r\nHost: x\r\nConnection: clo\u017fe, \u00a0close\r\n\r\n", seen{Method: "GET", Host: "x", Path: "/"}},
		{"names and values", "GET / HTTP/1.1\r\nHost:x\r\nX-ONE:  a \t\r\nx_two:\r\nX-One: \xe9\tb\r\n\r\n", seen{Method: "GET", Host: "x", Path: "/", Header: fields("x-one", "a", "x_two", "", "x-one", "\xe9\tb")}},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", seen{Method: "GET", Host: "x", Path: "/", Body: "ab", Length: 2, Header: fields("content-length", "2")}},
		{"100 fields", "GET / HTTP/1.1\r\nHost: x\r\n" + many + "\r\n", seen{Method: "GET", Host: "x", Path: "/", Header: repeat("a", "b", 99)}},
		{"method of its own", "purge-All / HTTP/1.1\r\nHost: x\r\n\r\n", seen{Method: "purge-All", Host: "x", Path: "/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			_, address := setup{}.serve(t, &r)
			conn := setup{}.dial(t, address)
			conn.send(c.request + "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if a := conn.rest(); strings.Count(a, "HTTP/1.1 200 OK\r\n") != 2 {
				t.Errorf("want two answers, found %q", a)
			}
			c.want.Proto = "HTTP/1.1"
			got := r.all()
			if len(got) != 2 || got[1].Path != "/next" {
				t.Fatalf("want two exchanges, found %+v", got)
			}
			if len(c.want.Header) == 0 {
				got[0].Header = nil
			}
			if diff := cmp.Diff(c.want, got[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// HTTP/1.0 clients are served, and their connection ends unless they ask for more.
func TestHTTP10(t *testing.T) {
	var r recorder
	_, address := setup{}.serve(t, &r)
	if a := raw(t, address, "GET /a HTTP/1.0\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 200 OK\r\n") || !strings.Contains(a, "\r\nConnection: close\r\n") {
		t.Errorf("found %q", a)
	}
	conn := setup{}.dial(t, address)
	conn.send("GET /b HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: z\r\n\r\n")
	if resp, _ := conn.answer("GET"); resp.Header.Get("Connection") != "keep-alive" {
		t.Errorf("found %v", resp.Header)
	}
	conn.send("GET /c HTTP/1.0\r\n\r\n")
	conn.answer("GET")
	if a := conn.rest(); a != "" {
		t.Errorf("want the end, found %q", a)
	}
	got := r.all()
	if len(got) != 3 || got[0].Proto != "HTTP/1.0" || got[0].Host != "" || got[1].Host != "z" {
		t.Errorf("found %+v", got)
	}
}

// Every spelling of Transfer-Encoding has one outcome, alone and beside a Content-Length.
func TestTransferEncodingMutations(t *testing.T) {
	text, err := os.ReadFile("testdata/transfer-encoding-mutations.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Name, Header, Want string }
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 134 {
		t.Fatalf("want 134 rows, found %d", len(rows))
	}
	legal := 0
	var r recorder
	_, address := setup{}.serve(t, &r)
	try := func(name, head, body, status, want string) {
		t.Helper()
		before := len(r.all())
		answer := raw(t, address, head+"\r\n"+body)
		got := r.all()[before:]
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status+" ") {
			t.Errorf("%s: want %s, found %q", name, status, answer)
		}
		if status != "200" {
			if strings.Count(answer, "HTTP/1.1 ") != 1 || len(got) != 0 {
				t.Errorf("%s: want one refusal and nothing handed on, found %q and %+v", name, answer, got)
			}
			return
		}
		if len(got) != 1 || got[0].Body != want || got[0].Err != "" {
			t.Errorf("%s: want one exchange with body %q, found %+v", name, want, got)
		}
	}
	const head, end, length = "POST / HTTP/1.1\r\nHost: x\r\n", "Connection: close\r\n", "Content-Length: 5\r\n"
	for _, row := range rows {
		header := latin1(row.Header) + "\r\n"
		switch row.Want {
		case "400":
			try(row.Name, head+header+end, "5\r\nhello\r\n0\r\n\r\n"+second, "400", "")
			try(row.Name+", length before", head+length+header+end, "0\r\n\r\n"+second, "400", "")
			try(row.Name+", length after", head+header+length+end, "0\r\n\r\n"+second, "400", "")
		case "chunked":
			legal++
			try(row.Name, head+header+end, "5\r\nhello\r\n0\r\n\r\n"+second, "200", "hello")
			try(row.Name+", length before", head+length+header+end, "0\r\n\r\n"+second, "400", "")
			try(row.Name+", length after", head+header+length+end, "0\r\n\r\n"+second, "400", "")
		case "none":
			legal++
			try(row.Name, head+header+end, "", "200", "")
			try(row.Name+", length before", head+length+header+end, "hello"+second, "200", "hello")
			try(row.Name+", length after", head+header+length+end, "hello"+second, "200", "hello")
		default:
			t.Errorf("%s: no expectation", row.Name)
		}
	}
	if legal != 13 {
		t.Errorf("want 13 legal rows, found %d", legal)
	}
}

// latin1 makes each character of s one byte.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}
