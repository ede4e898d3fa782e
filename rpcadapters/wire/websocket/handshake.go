package websocket

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Options of one WebSocket.
type Options struct {
	// Protocols are the subprotocols that are known. Of those that the client offers, the first known one is taken.
	Protocols []string
	// MaxMessage is how many bytes a message may have.
	MaxMessage int
	// Header goes with the answer to the handshake.
	Header rpc.Metadata
}

// Asked tells whether a request asks for a WebSocket (RFC 6455 section 4.1).
func Asked(x *wire.Exchange) bool {
	return x.HTTP.Method == "GET" && x.Proto == "HTTP/1.1" && hasToken(x.HTTP.Header, "upgrade", "websocket")
}

// Check holds a request that asks for a WebSocket against RFC 6455, and its origin against the list: see Allows.
func Check(x *wire.Exchange, origins []string) *rpc.Error {
	h := x.HTTP.Header
	if !hasToken(h, "connection", "upgrade") {
		return malformed("want Connection: Upgrade beside Upgrade: websocket")
	}
	if v := h.Get("sec-websocket-version"); v != "13" || h.Count("sec-websocket-version") > 1 {
		e := rpc.Refuse(codes.InvalidArgument, "WEBSOCKET_VERSION", "the WebSocket version is %q: want 13", v).WithStatus(426)
		e.Header.Add("sec-websocket-version", "13")
		return e
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(h.Get("sec-websocket-key")))
	if err != nil || len(key) != 16 || h.Count("sec-websocket-key") > 1 {
		return malformed("want one Sec-WebSocket-Key, 16 bytes in base64")
	}
	if x.ContentLength > 0 {
		return malformed("a request for a WebSocket has no body")
	}
	if h.Count("origin") > 1 || h.Has("origin") && !Allows(origins, h.Get("origin"), authority(&x.HTTP)) {
		return rpc.Refuse(codes.PermissionDenied, "ORIGIN_NOT_ALLOWED", "WebSockets from the origin %q are not allowed here", h.Get("origin"))
	}
	return nil
}

func malformed(text string) *rpc.Error {
	return rpc.Refuse(codes.InvalidArgument, "MALFORMED_WEBSOCKET", "the request for a WebSocket is malformed: %s", text)
}

// Allows tells whether pages of an origin may open WebSockets at host (as the Host header has it): its own may, and those
// in the list. An entry is an origin, scheme://host and the port if it is not the scheme's own; a host that begins with
// "*." stands for every name below. "*" allows all. Browsers always say the origin; what is none has no cookies of
// somebody else's to misuse.
func Allows(origins []string, origin, host string) bool {
	origin = rpc.Lower(origin)
	scheme, own, ok := strings.Cut(origin, "://")
	if ok && rpc.EqualFold(trimPort(own, scheme), trimPort(host, scheme)) && own != "" {
		return true
	}
	for _, o := range origins {
		if o == "*" || rpc.EqualFold(o, origin) {
			return true
		}
		s, below, wild := strings.Cut(rpc.Lower(o), "://*.")
		if wild && ok && s == scheme && strings.HasSuffix(own, "."+below) {
			return true
		}
	}
	return false
}

func authority(h *rpc.HTTP) string {
	if h.Port == "" {
		return h.Host
	}
	return h.Host + ":" + h.Port
}

// trimPort takes the port off that a scheme has anyway.
func trimPort(host, scheme string) string {
	if scheme == "https" {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":80")
}

// hasToken tells whether a list header names a token.
func hasToken(h rpc.Metadata, key, token string) bool {
	for i := range h {
		if h[i].Key != key {
			continue
		}
		for t := range strings.SplitSeq(h[i].Value, ",") {
			if rpc.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// Accept takes the connection over from an exchange that Check has passed, and answers the handshake. The exchange has its
// answer then; the connection is the caller's to close. On an error nothing was written if the exchange still has no status.
func Accept(x *wire.Exchange, o Options) (*Conn, error) {
	r := &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: x.HTTP.Host, Header: http.Header{}}
	for _, p := range x.HTTP.Header {
		switch p.Key {
		case "connection", "upgrade", "sec-websocket-version", "sec-websocket-key":
			name := textproto.CanonicalMIMEHeaderKey(p.Key)
			r.Header[name] = append(r.Header[name], p.Value)
		}
	}
	known := choose(x.HTTP.Header, o.Protocols)
	if known != "" {
		r.Header.Set("Sec-Websocket-Protocol", known)
	}
	h := &handshake{x: x, header: http.Header{}}
	for _, p := range o.Header {
		if !strings.HasPrefix(p.Key, "sec-websocket-") { // what is agreed on is said below
			h.header.Add(p.Key, p.Value)
		}
	}
	c := &Conn{}
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin was checked
		// A pong that cannot go out at once, since the client does not take what is being sent, is left out: its failure
		// would end the connection of a client that is merely slow.
		OnPingReceived: func(context.Context, []byte) bool { return !c.writing.Load() },
	}
	if known != "" {
		opts.Subprotocols = []string{known}
	}
	ws, err := websocket.Accept(h, r, opts)
	if err != nil {
		if h.tap != nil {
			_ = h.tap.Close() // taken over, and of no use
		}
		return nil, errors.Join(err, h.err)
	}
	ws.SetReadLimit(int64(o.MaxMessage))
	c.ws, c.tap = ws, h.tap
	return c, nil
}

// choose is the first subprotocol that the client offers and known has.
func choose(h rpc.Metadata, known []string) string {
	for i := range h {
		if h[i].Key != "sec-websocket-protocol" {
			continue
		}
		for t := range strings.SplitSeq(h[i].Value, ",") {
			if t = strings.TrimSpace(t); slices.Contains(known, t) {
				return t
			}
		}
	}
	return ""
}

// handshake is the exchange as net/http's handlers see one.
type handshake struct {
	x      *wire.Exchange
	header http.Header
	tap    *tap
	err    error
}

// Header implements http.ResponseWriter.
func (h *handshake) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter. The head goes out with Hijack.
func (*handshake) WriteHeader(int) {}

// Write implements http.ResponseWriter. It is called for refusals, which are the caller's.
func (*handshake) Write(p []byte) (int, error) { return len(p), nil }

// buffer is what is kept for reading and for writing; longer messages pass it by.
const buffer = 1 << 10

// Hijack implements http.Hijacker: it takes the connection over and answers.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, read, err := h.x.TakeOver()
	if err != nil {
		h.err = err
		return nil, nil, err
	}
	h.tap = newTap(nc, read)
	b := []byte("HTTP/1.1 101 Switching Protocols\r\n")
	for key, values := range h.header {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				continue
			}
			b = append(b, key+": "+v+"\r\n"...)
		}
	}
	if _, err := h.tap.Write(append(b, "\r\n"...)); err != nil {
		h.err = err
		return nil, nil, err
	}
	return h.tap, bufio.NewReadWriter(bufio.NewReaderSize(h.tap, buffer), bufio.NewWriterSize(h.tap, buffer)), nil
}
