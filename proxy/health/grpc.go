package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// GRPCCheck says what is asked by GRPC.
type GRPCCheck struct {
	// Service is whose health is asked for; empty: that of the server as a whole.
	Service string
	// Unimplemented has a server without the health service count as up: it answers, so it does not hang. Without it such a
	// server is down, as it is for Kubernetes and Envoy: who configured the check meant it to be answered.
	Unimplemented bool
}

const (
	userAgent  = "causeway-health"
	maxService = 1 << 10
	maxHead    = 16 << 10
	maxMessage = 4 << 10
)

// GRPC makes a prober that calls grpc.health.v1.Health/Check. The connection is kept between probes, and read only by them; no
// goroutine belongs to it. After a probe without an answer it is made anew. The address is host:port; without t there is no
// TLS.
func GRPC(address string, c GRPCCheck, t *tls.Config) (Prober, error) {
	if err := addressFault(address); err != nil {
		return nil, err
	}
	if len(c.Service) > maxService {
		return nil, fmt.Errorf("health: want a service name of at most %d bytes, found %d", maxService, len(c.Service))
	}
	g := &grpcProber{address: address, check: c, tls: forHost(t, address)}
	scheme, authority := "http", address
	if g.tls != nil {
		g.tls.NextProtos = []string{"h2"}
		scheme = "https"
		if t.ServerName != "" {
			authority = t.ServerName
		}
	}
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", scheme},
		{":path", "/grpc.health.v1.Health/Check"},
		{":authority", authority},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"user-agent", userAgent},
	} {
		g.head = appendField(g.head, f[0], f[1])
	}
	var message []byte
	if c.Service != "" {
		message = protowire.AppendTag(message, 1, protowire.BytesType)
		message = protowire.AppendString(message, c.Service)
	}
	g.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...) //nolint:gosec // bounded above
	return g, nil
}

type grpcProber struct {
	address    string
	check      GRPCCheck
	tls        *tls.Config
	head, body []byte // of the request
	conn       *h2    // kept from the last probe; nil: none
}

// Probe asks for the health.
func (g *grpcProber) Probe(ctx context.Context) error {
	if g.conn != nil && !g.conn.spent() {
		// The server may have closed a kept connection, or be about to; that says nothing.
		if err, stale := g.ask(ctx); !stale {
			return err
		}
	}
	g.Close()
	conn, at, err := connect(ctx, g.address, g.tls)
	if err != nil {
		return reason(ctx, at, err)
	}
	if secure, ok := conn.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol != "h2" {
		_ = conn.Close()
		return errors.New("the server offers no HTTP/2 in the TLS handshake")
	}
	g.conn = newH2(conn)
	err, _ = g.ask(ctx)
	return err
}

// ask calls once on the connection, which is closed and forgotten where it cannot be used again. stale tells that the call
// was never begun.
func (g *grpcProber) ask(ctx context.Context) (err error, stale bool) { //nolint:revive // the verdict comes first: stale explains it
	release := guard(ctx, g.conn.conn)
	defer release()
	a, keep, err := g.conn.call(g.head, g.body)
	if !keep {
		g.Close()
	}
	if err != nil {
		return g.broken(ctx, err), !a.begun && ctx.Err() == nil && !isTimeout(err)
	}
	return g.verdict(a), false
}

// broken is why there was no answer.
func (g *grpcProber) broken(ctx context.Context, err error) error {
	var fault net.Error
	var reset *resetError
	switch {
	case isTimeout(err), ctx.Err() != nil, errors.As(err, &fault), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return reason(ctx, asking, err)
	case errors.Is(err, errGone), errors.Is(err, errTooLong), errors.As(err, &reset):
		return err
	}
	return &failure{"what answered does not speak HTTP/2 as it should: " + bounded(err.Error()), err}
}

// verdict reads an answer that has ended.
func (g *grpcProber) verdict(a answer) error {
	if a.http != "200" {
		return errors.New("what answered is HTTP with status " + bounded(a.http) + ", not gRPC")
	}
	if !strings.HasPrefix(a.content, "application/grpc") {
		return errors.New("what answered is not gRPC: its content-type is " + quoted(a.content))
	}
	n, err := strconv.ParseUint(a.status, 10, 32)
	if err != nil {
		return errors.New("the answer has no grpc-status")
	}
	switch code := codes.Code(n); code {
	case codes.OK:
		return g.serving(a.body)
	case codes.Unimplemented:
		if g.check.Unimplemented {
			return nil
		}
		return errors.New("the server has no service grpc.health.v1.Health: add it, or have its absence count as up")
	case codes.NotFound:
		return errors.New("the server's health service does not know " + g.subject())
	case codes.Unauthenticated, codes.PermissionDenied:
		return errors.New("the server wants credentials for its health service: let checks in without")
	default:
		return errors.New("the health service answered " + code.String() + saying(a.message))
	}
}

func saying(message string) string {
	if message == "" {
		return ""
	}
	return ": " + bounded(message)
}

// serving reads a HealthCheckResponse.
func (g *grpcProber) serving(b []byte) error {
	s, err := servingStatus(b)
	if err != nil {
		return &failure{"the answer is no HealthCheckResponse: " + err.Error(), err}
	}
	switch s {
	case 1:
		return nil
	case 0:
		return errors.New(g.subject() + " says that its health is UNKNOWN")
	case 2:
		return errors.New(g.subject() + " says that it is NOT_SERVING")
	case 3:
		return errors.New("the server's health service does not know " + g.subject())
	}
	return errors.New(g.subject() + " says that its health is " + strconv.Itoa(int(s)) + ", which has no meaning")
}

// servingStatus is field 1 of the one message in b.
func servingStatus(b []byte) (status int32, err error) {
	if len(b) < 5 || int64(len(b)-5) != int64(binary.BigEndian.Uint32(b[1:])) {
		return 0, fmt.Errorf("want one message, found %d bytes that are none", len(b))
	}
	if b[0] != 0 {
		return 0, errors.New("it is compressed, though no compression was offered")
	}
	for b = b[5:]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if number == 1 && kind == protowire.VarintType {
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			status = int32(v) //nolint:gosec // as protobuf reads an enum
		} else {
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return status, nil
}

func (g *grpcProber) subject() string {
	if g.check.Service == "" {
		return "the server"
	}
	return "the service " + quoted(g.check.Service)
}

// Close closes the connection.
func (g *grpcProber) Close() {
	if g.conn != nil {
		_ = g.conn.conn.Close()
		g.conn = nil
	}
}

// appendField appends a header field in HPACK, literal and in no table.
func appendField(b []byte, name, value string) []byte {
	b = append(b, 0)
	b = appendText(b, name)
	return appendText(b, value)
}

func appendText(b []byte, s string) []byte {
	if n := len(s); n < 127 {
		b = append(b, byte(n))
	} else {
		b = append(b, 127)
		for n -= 127; n >= 128; n >>= 7 {
			b = append(b, byte(n)|128)
		}
		b = append(b, byte(n))
	}
	return append(b, s...)
}

// decodePercent is grpc-message as it was meant.
func decodePercent(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b bytes.Buffer
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
