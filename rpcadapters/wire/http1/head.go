package http1

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// request is what a head says about how the exchange goes; the rest of it goes into an rpc.HTTP.
type request struct {
	minor    byte  // of HTTP/1.x: '0' or '1'
	length   int64 // of the body; -1: chunked
	close    bool  // the client wants the connection closed
	keep     bool  // an HTTP/1.0 client wants it kept
	expect   bool  // the body comes when it is asked for
	trailers bool  // the client takes trailers
}

// scanner looks for the end of a head while its bytes arrive, each byte once.
type scanner struct {
	at    int // how far it has looked
	line  int // where the line being looked at begins
	lines int // ended so far
}

// next returns the length of the head that b begins with, 0 while it has not come to its end. It refuses as early as it
// can what can become no head.
func (s *scanner) next(b []byte, lim *Limits) (int, *refusal) {
	if s.at == 0 && len(b) > 0 && lowerToken[b[0]] == 0 {
		return 0, notHTTP(b[0])
	}
	for {
		i := bytes.IndexByte(b[s.at:], '\n')
		if i < 0 {
			s.at = len(b)
			break
		}
		end := s.at + i
		if end == s.line || b[end-1] != '\r' {
			return 0, malformed("line %d ends in a bare LF: want CR LF", s.lines+1)
		}
		s.at = end + 1
		if end == s.line+1 {
			if s.at > lim.HeaderBytes {
				return 0, tooLarge(lim)
			}
			return s.at, nil
		}
		s.line = s.at
		if s.lines++; s.lines > lim.HeaderFields+1 {
			return 0, &refusal{431, "HEADERS_TOO_LARGE", fmt.Sprintf("more than %d header fields", lim.HeaderFields)}
		}
	}
	switch {
	case s.lines == 0 && len(b) > lim.URI+maxMethod+len(" HTTP/1.1\r\n")+1:
		return 0, uriTooLong(lim)
	case len(b) > lim.HeaderBytes:
		return 0, tooLarge(lim)
	}
	return 0, nil
}

// span is where a header field stands in the head.
type span struct{ name, nameEnd, value, valueEnd uint32 }

// usualFields is how many header fields a head may have without an allocation for their places.
const usualFields = 40

// parse takes apart a whole head, which ends in an empty line; scanner has seen that every line ends in CR LF. Names are
// made lower case in raw, which is then copied once; h gets substrings of the copy, which is text.
func (r *request) parse(raw []byte, h *rpc.HTTP, lim *Limits) *refusal {
	*r = request{}
	eol := bytes.IndexByte(raw, '\n')
	line := raw[:eol-1]
	method := bytes.IndexByte(line, ' ')
	if method <= 0 {
		return malformed("the request line: want method, target and version, each one space apart")
	}
	for i, c := range line[:method] {
		if lowerToken[c] == 0 {
			return malformed("the method: column %d: byte 0x%02X is not allowed there", i+1, c)
		}
	}
	if method > maxMethod {
		return &refusal{501, "UNKNOWN_METHOD", fmt.Sprintf("the method is longer than %d bytes", maxMethod)}
	}
	target := bytes.LastIndexByte(line, ' ')
	if ref := r.version(line[target+1:]); ref != nil {
		return ref
	}
	if target <= method+1 {
		return malformed("the request line: want method, target and version, each one space apart")
	}
	if target-method-1 > lim.URI {
		return uriTooLong(lim)
	}
	for i, c := range line[method+1 : target] {
		if c <= ' ' || c == 0x7f {
			return malformed("the request target: column %d: byte 0x%02X is not allowed there: percent-encode it", i+1, c)
		}
	}

	var places [usualFields]span
	spans := places[:0]
	f := fields{hostAt: -1}
	for at := eol + 1; ; {
		n := bytes.IndexByte(raw[at:], '\n')
		if n == 1 {
			break
		}
		s, ref := field(raw, at, at+n-1, len(spans)+1)
		if ref != nil {
			return ref
		}
		passes, ref := r.meaning(&f, raw[s.name:s.nameEnd], raw[s.value:s.valueEnd], len(spans))
		if ref != nil {
			return ref
		}
		if !passes {
			s.nameEnd = s.name // it has a place in spans all the same, where its number is its line's
		}
		spans = append(spans, s)
		at += n + 1
	}
	if ref := r.framing(&f); ref != nil {
		return ref
	}

	text := string(raw)
	h.Method = text[:method]
	for i := range spans {
		if s := &spans[i]; s.nameEnd > s.name {
			h.Header = append(h.Header, rpc.Pair{Key: text[s.name:s.nameEnd], Value: text[s.value:s.valueEnd]})
		}
	}
	host := ""
	if f.hostAt >= 0 {
		s := &spans[f.hostAt]
		host = text[s.value:s.valueEnd]
	}
	return place(text[method+1:target], host, f.hostAt >= 0, h)
}

// version takes the version apart.
func (r *request) version(v []byte) *refusal {
	switch string(v) {
	case "HTTP/1.1", "HTTP/1.0":
		r.minor = v[7]
		return nil
	}
	if len(v) == 8 && string(v[:5]) == "HTTP/" && digit(v[5]) && v[6] == '.' && digit(v[7]) {
		return &refusal{505, "UNSUPPORTED_VERSION", fmt.Sprintf("version %s is not served here: send HTTP/1.1", v)}
	}
	return malformed("the request line does not end in a version: want HTTP/1.1")
}

func digit(c byte) bool { return c-'0' < 10 }

// field finds name and value in raw[at:end], a line without its CR LF, and makes the name lower case.
func field(raw []byte, at, end, number int) (span, *refusal) {
	name := at
	for ; name < end; name++ {
		l := lowerToken[raw[name]]
		if l == 0 {
			break
		}
		raw[name] = l
	}
	switch {
	case name == at && (raw[at] == ' ' || raw[at] == '\t'):
		return span{}, malformed("header field %d: a value that goes on in a second line (obs-fold) is not taken", number)
	case name == end:
		return span{}, malformed("header field %d has no colon", number)
	case raw[name] != ':':
		return span{}, malformed("header field %d: column %d: byte 0x%02X is not allowed in a name", number, name-at+1, raw[name])
	case name == at:
		return span{}, malformed("header field %d has no name", number)
	}
	value := name + 1
	for value < end && blank(raw[value]) {
		value++
	}
	for end > value && blank(raw[end-1]) {
		end--
	}
	if i := unclean(raw[value:end]); i >= 0 {
		return span{}, malformed("header field %d: column %d: byte 0x%02X is not allowed in a value", number, value+i-at+1, raw[value+i])
	}
	return span{uint32(at), uint32(name), uint32(value), uint32(end)}, nil //nolint:gosec // a head is some KiB
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// unclean returns where v has its first control character other than a tab, or -1. It looks at eight bytes at a time.
func unclean(v []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(v); i += 8 {
		x := binary.LittleEndian.Uint64(v[i:])
		y := x ^ ones*0x7f
		// Bit 7 of a byte is set where the byte is below 0x20, or 0x7f. See "Bit Twiddling Hacks", hasless and haszero.
		if ((x-ones*0x20)&^x|(y-ones)&^y)&tops != 0 {
			break
		}
	}
	for ; i < len(v); i++ {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return -1
}

// fields is what has been seen of the fields that decide about framing and place.
type fields struct {
	hostAt   int // its index; -1: none
	length   bool
	encoding bool
}

// meaning looks at a field for what it says to the engine, and tells whether it passes on as a header.
func (r *request) meaning(f *fields, name, value []byte, index int) (passes bool, _ *refusal) {
	switch string(name) {
	case "host":
		if f.hostAt >= 0 {
			return false, malformed("two host fields")
		}
		f.hostAt = index
		for i, c := range value {
			if 'A' <= c && c <= 'Z' {
				value[i] = c | 0x20
			}
		}
		return false, nil
	case "content-length":
		if f.length {
			return false, badFraming("two content-length fields")
		}
		f.length = true
		n, ok := length(value)
		if !ok {
			return false, badFraming("content-length: want a number of bytes")
		}
		r.length = n
	case "transfer-encoding":
		switch {
		case f.encoding:
			return false, badFraming("two transfer-encoding fields")
		case rpc.EqualFold(value, "chunked"):
		case len(value) == 0, strings.Contains(rpc.Lower(string(value)), "chunked"):
			return false, badFraming("transfer-encoding: want chunked and nothing else")
		default:
			return false, &refusal{501, "UNSUPPORTED_ENCODING", "this transfer-encoding is not served here: send chunked, or a content-length"}
		}
		f.encoding = true
		return false, nil
	case "connection":
		r.close = r.close || lists(value, "close")
		r.keep = r.keep || lists(value, "keep-alive")
	case "expect":
		if !rpc.EqualFold(value, "100-continue") {
			return false, &refusal{417, "EXPECTATION_FAILED", "expect: want 100-continue"}
		}
		r.expect = true
	case "te":
		r.trailers = r.trailers || lists(value, "trailers")
	}
	return true, nil
}

// length is the value of a content-length field: digits alone, and no more than an int64 holds.
func length(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if !digit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// lists tells whether a list of tokens has one, in any case.
func lists(v []byte, token string) bool {
	for len(v) >= len(token) {
		item, rest, _ := bytes.Cut(v, []byte{','})
		item = bytes.Trim(item, " \t")
		if rpc.EqualFold(item, token) {
			return true
		}
		v = rest
	}
	return false
}

// framing decides where the body ends (RFC 9112 section 6.3), and refuses where two could decide differently.
func (r *request) framing(f *fields) *refusal {
	switch {
	case f.encoding && f.length:
		return badFraming("both content-length and transfer-encoding: want one of them")
	case f.encoding && r.minor == '0':
		return badFraming("transfer-encoding is not for HTTP/1.0: send a content-length")
	case f.encoding:
		r.length = -1
	}
	if r.minor == '0' {
		r.expect, r.trailers = false, false
		r.close = r.close || !r.keep
	} else {
		r.keep = false
		if f.hostAt < 0 {
			return malformed("no host field")
		}
	}
	r.expect = r.expect && r.length != 0
	return nil
}

// place sets host, path and query.
func place(target, host string, hosted bool, h *rpc.HTTP) *refusal {
	name, port, ok := splitHost(host)
	if hosted && !ok {
		return malformed("the host field: want a name or address, and a port if need be")
	}
	h.Host, h.Port = name, port
	switch {
	case target[0] == '/':
	case target == "*" && h.Method == "OPTIONS":
	case h.Method == "CONNECT":
		return &refusal{405, "METHOD_NOT_ALLOWED", "CONNECT is not served here"}
	default:
		scheme, rest, ok := strings.Cut(target, "://")
		https := rpc.EqualFold(scheme, "https")
		if !ok || !https && !rpc.EqualFold(scheme, "http") {
			return malformed("the request target: want a path that begins with /, or http://host/path")
		}
		authority := rest
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority, target = rest[:i], rest[i:]
		} else {
			target = ""
		}
		n, p, ok := splitHost(rpc.Lower(authority))
		if !ok {
			return malformed("the host of the request target: want a name or address, and a port if need be")
		}
		usual := "80"
		if https {
			usual = "443"
		}
		if hosted && (n != name || p != port && !(p+port == usual)) {
			return malformed("the request target and the host field name different hosts")
		}
		h.Host, h.Port = n, p
		if target == "" || target[0] == '?' {
			h.Path = "/"
			h.Query = strings.TrimPrefix(target, "?")
			return nil
		}
		if target[0] == '#' {
			return malformed("the request target has a fragment")
		}
	}
	h.Path, h.Query, _ = strings.Cut(target, "?")
	return nil
}

// splitHost takes a Host in lower case apart: the name without the dot of a rooted one, IPv6 addresses in brackets, and
// the port. It takes what can be a name in DNS or an address: user information and the like is refused.
func splitHost(h string) (name, port string, ok bool) {
	if strings.HasPrefix(h, "[") {
		end := strings.IndexByte(h, ']')
		if end < 0 {
			return "", "", false
		}
		name, port = h[:end+1], h[end+1:]
		a, err := netip.ParseAddr(name[1:end])
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", "", false
		}
		if port != "" {
			if port[0] != ':' {
				return "", "", false
			}
			port = port[1:]
		}
	} else {
		name, port, _ = strings.Cut(h, ":")
		name = strings.TrimSuffix(name, ".")
		if name == "" {
			return "", "", false
		}
		last := byte('.')
		for i := range len(name) {
			c := name[i]
			if c == '.' && last == '.' || !hostByte[c] {
				return "", "", false
			}
			last = c
		}
		if last == '.' {
			return "", "", false
		}
	}
	if len(port) > 5 {
		return "", "", false
	}
	for i := range len(port) {
		if !digit(port[i]) {
			return "", "", false
		}
	}
	return name, port, true
}

// lowerToken holds for every byte that may stand in a token (RFC 9110 section 5.6.2) the same in lower case, for others 0.
var lowerToken = func() (t [256]byte) {
	for c := byte('!'); c < 0x7f; c++ {
		switch {
		case 'A' <= c && c <= 'Z':
			t[c] = c | 0x20
		case strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) < 0:
			t[c] = c
		}
	}
	return t
}()

// hostByte are the bytes of a lower-case name in DNS, with the underscore that is not rare there, and of an IPv4 address.
var hostByte = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-._~") {
		t[c] = true
	}
	return t
}()
