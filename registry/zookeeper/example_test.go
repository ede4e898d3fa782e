package zookeeper_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
)

// serve is what a service does; the README shows it.
func serve(ctx context.Context, server *grpc.Server, listener net.Listener) error {
	lease, err := zookeeper.Register(ctx, zookeeper.Config{Servers: []string{"127.0.0.1:2181"}},
		"shop.v1.OrderService", registry.Endpoint{Address: "10.0.3.7:9000"})
	if err != nil {
		return err
	}
	go server.Serve(listener) //nolint:errcheck // it ends with GracefulStop
	err = zookeeper.DrainOnSignal(ctx, lease)
	server.GracefulStop()
	return err
}

// follow makes an instance follow its own gRPC health.
func follow(conn *zookeeper.Conn, own *health.Server) *zookeeper.Registrar {
	return &zookeeper.Registrar{Conn: conn, Health: func(ctx context.Context) error {
		answer, err := own.Check(ctx, &healthpb.HealthCheckRequest{Service: "shop.v1.OrderService"})
		if err == nil && answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			err = errors.New(answer.GetStatus().String())
		}
		return err
	}}
}

// TestFollowsGRPCHealth runs what the README shows.
func TestFollowsGRPCHealth(t *testing.T) {
	keeper := devserver.New(devserver.Config{Tick: 50 * time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- keeper.Serve(l) }()
	t.Cleanup(func() {
		_ = keeper.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := zookeeper.Connect(zookeeper.Config{Servers: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	own := health.NewServer()
	registrar := follow(conn, own)
	registrar.HealthEvery = 5 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := registrar.Register(ctx, "shop.v1.OrderService", registry.Endpoint{Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	sink, stop := registrytest.Watch(t, &zookeeper.Resolver{Conn: conn}, "shop.v1.OrderService")
	defer stop() //nolint:errcheck // the context's error
	for _, step := range []struct {
		set  healthpb.HealthCheckResponse_ServingStatus
		want registry.Status
	}{
		{healthpb.HealthCheckResponse_UNKNOWN, registry.Starting},
		{healthpb.HealthCheckResponse_SERVING, registry.Up},
		{healthpb.HealthCheckResponse_NOT_SERVING, registry.Down},
		{healthpb.HealthCheckResponse_SERVING, registry.Up},
	} {
		own.SetServingStatus("shop.v1.OrderService", step.set)
		sink.WaitSet(step.want.String(), func(s registry.Set) bool { return len(s.Endpoints) == 1 && s.Endpoints[0].Status == step.want })
	}
}

var _ = serve // it registers at the address that the README shows

// TestReadme holds the README's code to what is compiled here.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range strings.Split(string(readme), "```go\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		found++
		for line := range strings.Lines(code) {
			if s := strings.TrimSpace(line); s != "" && !strings.Contains(string(source), s) {
				t.Errorf("the README shows a line that is compiled nowhere: %s", s)
			}
		}
		if n := strings.Count(code, "\n"); n > 10 {
			t.Errorf("want 10 lines or fewer, found %d", n)
		}
	}
	if found != 2 {
		t.Errorf("want two pieces of code, found %d", found)
	}
}
