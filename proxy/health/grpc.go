package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// GRPCCheck says what is asked by GRPC.
type GRPCCheck struct {
	// Service is whose health is asked for; empty: that of the server as a whole.
	Service string
	// Unimplemented has a server without the health service count as up: it answers, so it does not hang. Without it such a
	// server is down, as it is for Kubernetes and Envoy: who configured the check meant it to be answered.
	Unimplemented bool
}

// GRPC makes a prober that calls grpc.health.v1.Health/Check. The connection is kept between probes; after a probe without an
// answer it is made anew. The address is host:port; without t there is no TLS.
func GRPC(address string, c GRPCCheck, t *tls.Config) (Prober, error) {
	if err := addressFault(address); err != nil {
		return nil, err
	}
	g := &grpcProber{address: address, check: c, request: &healthpb.HealthCheckRequest{Service: c.Service}}
	creds := insecure.NewCredentials()
	if t != nil {
		creds = credentials.NewTLS(forHost(t, address))
	}
	g.options = []grpc.DialOption{
		grpc.WithTransportCredentials(&witness{creds, g}),
		grpc.WithContextDialer(g.dial),
		grpc.WithNoProxy(),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithDisableRetry(),
		// Probes say when it connects again, see Probe; by itself it does so hardly ever.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}, MinConnectTimeout: time.Minute}),
		grpc.WithIdleTimeout(0),
		grpc.WithReadBufferSize(readBuffer),
		grpc.WithWriteBufferSize(writeBuffer),
		grpc.WithInitialWindowSize(window), // this and the next also end the measuring of bandwidth
		grpc.WithInitialConnWindowSize(window),
		grpc.WithMaxHeaderListSize(maxHead),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	return g, nil
}

const (
	userAgent   = "causeway-health"
	readBuffer  = 1 << 10
	writeBuffer = 1 << 10
	window      = 64 << 10
	maxHead     = 16 << 10
	maxMessage  = 4 << 10
)

type grpcProber struct {
	address string
	check   GRPCCheck
	request *healthpb.HealthCheckRequest
	options []grpc.DialOption
	conn    *grpc.ClientConn // nil: the next probe makes one

	mu    sync.Mutex
	fault error // why there is no connection, as the last attempt found it
	at    stage
}

// Probe asks for the health.
func (g *grpcProber) Probe(ctx context.Context) error {
	if g.conn == nil {
		conn, err := grpc.NewClient("passthrough:///"+strings.ReplaceAll(g.address, "%", "%25"), g.options...)
		if err != nil {
			return reason(ctx, connecting, err)
		}
		g.conn = conn
	}
	g.note(connecting, nil)
	answer, err := healthpb.NewHealthClient(g.conn).Check(ctx, g.request)
	ready := g.conn.GetState() == connectivity.Ready
	if err != nil && (ctx.Err() != nil || !ready) {
		// A connection that is there but silent may be one whose other end is gone; one that failed is not tried again before
		// the next probe.
		g.Close()
	}
	if err == nil {
		return g.verdict(answer.GetStatus())
	}
	return g.broken(ctx, err, ready)
}

func (g *grpcProber) verdict(s healthpb.HealthCheckResponse_ServingStatus) error {
	if s == healthpb.HealthCheckResponse_SERVING {
		return nil
	}
	return fmt.Errorf("%s says that it is %s", g.subject(), bounded(s.String()))
}

func (g *grpcProber) subject() string {
	if g.check.Service == "" {
		return "the server"
	}
	return "the service " + quoted(g.check.Service)
}

func (g *grpcProber) broken(ctx context.Context, err error, ready bool) error {
	g.mu.Lock()
	at, fault := g.at, g.fault
	g.mu.Unlock()
	if fault != nil && !ready {
		return reason(ctx, at, fault)
	}
	if ctx.Err() != nil {
		return reason(ctx, at, err)
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unimplemented:
		if g.check.Unimplemented {
			return nil
		}
		return &failure{"the server has no service grpc.health.v1.Health: add it, or have its absence count as up", err}
	case codes.NotFound:
		return &failure{"the server's health service does not know " + g.subject(), err}
	case codes.Unauthenticated, codes.PermissionDenied:
		return &failure{"the server wants credentials for its health service: let checks in without", err}
	case codes.Unavailable:
		if !ready {
			return &failure{"the connection was lost: " + bounded(st.Message()), err}
		}
	}
	return &failure{"the health service answered " + st.Code().String() + ": " + bounded(st.Message()), err}
}

// Close closes the connection.
func (g *grpcProber) Close() {
	if g.conn != nil {
		_ = g.conn.Close()
		g.conn = nil
	}
}

func (g *grpcProber) note(at stage, err error) {
	g.mu.Lock()
	g.at, g.fault = at, err
	g.mu.Unlock()
}

func (g *grpcProber) dial(ctx context.Context, address string) (net.Conn, error) {
	g.note(connecting, nil)
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		g.note(connecting, err)
		return nil, err
	}
	g.note(handshaking, nil)
	return conn, nil
}

// witness are credentials that tell the prober how far a handshake came.
type witness struct {
	credentials.TransportCredentials
	g *grpcProber
}

// ClientHandshake is that of the credentials.
func (w *witness) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		w.g.note(handshaking, err)
		return nil, nil, err
	}
	w.g.note(asking, nil)
	return secure, info, nil
}

// Clone is asked for by the client, which may change what it gets.
func (w *witness) Clone() credentials.TransportCredentials {
	return &witness{w.TransportCredentials.Clone(), w.g}
}
