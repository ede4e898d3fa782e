package health

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// TCP makes a prober that connects, and with t shakes hands, and closes again. A process that hangs passes without TLS: the
// kernel connects for it. The address is host:port.
//
// Without TLS the connection ends with a reset, as HAProxy's checks do, so that none is left behind in TIME_WAIT.
func TCP(address string, t *tls.Config) (Prober, error) {
	if err := addressFault(address); err != nil {
		return nil, err
	}
	return &tcp{address: address, tls: forHost(t, address)}, nil
}

type tcp struct {
	address string
	tls     *tls.Config
}

// Probe connects.
func (c *tcp) Probe(ctx context.Context) error {
	conn, at, err := connect(ctx, c.address, c.tls)
	if err != nil {
		return reason(ctx, at, err)
	}
	if raw, ok := conn.(*net.TCPConn); ok {
		_ = raw.SetLinger(0)
	}
	_ = conn.Close()
	return nil
}

// Close does nothing: no connection is kept.
func (c *tcp) Close() {}

// forHost is a copy of a configuration that knows whose certificate to expect.
func forHost(t *tls.Config, address string) *tls.Config {
	if t == nil {
		return nil
	}
	t = t.Clone()
	if t.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			t.ServerName = host
		}
	}
	return t
}

var dialer = net.Dialer{KeepAlive: -1}

// connect makes a connection whose deadline is that of ctx. With an error it tells how far it came.
func connect(ctx context.Context, address string, t *tls.Config) (net.Conn, stage, error) {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, connecting, err
	}
	if t == nil {
		return conn, "", nil
	}
	release := guard(ctx, conn)
	defer release()
	secure := tls.Client(conn, t)
	// Not with ctx, which would cost a goroutine: guard ends the handshake.
	if err := secure.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
		_ = conn.Close()
		return nil, handshaking, err
	}
	return secure, "", nil
}

// guard has reads and writes end with ctx. release ends that.
func guard(ctx context.Context, conn net.Conn) (release func()) {
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
