package zookeeper

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

const ordersDir = "/v1/services/orders/instances"

// nodeAt reads an instance's node; ok is false when it is not there.
func nodeAt(t testing.TB, side *zk.Conn, path string) (in Instance, stat *zk.Stat, ok bool) {
	t.Helper()
	data, stat, err := side.Get(path)
	if errors.Is(err, zk.ErrNoNode) || lost(err) {
		return in, nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	in, err = ParseInstance(data)
	if err != nil {
		return in, stat, false
	}
	return in, stat, true
}

func testRegistrar(t *testing.T, addr string, session time.Duration) {
	side := plain(t, addr)
	for name, test := range map[string]func(t *testing.T, x registered){
		"as it is written": testWritten, "after expiry": testExpired, "a ghost in its place": testGhost,
		"removed or spoiled by others": testSpoiled, "an operator's word": testOrder, "an operator's word in the gap": testOrderInTheGap, "inspected": testInspect,
		"drained and withdrawn": testDrain, "its health": testHealth, "held back": testHold,
		"two processes with one id": testContest,
	} {
		root := "/" + strings.ReplaceAll(name, " ", "-")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGate(t, addr)
			test(t, registered{
				conn: connect(t, Config{Servers: []string{g.addr()}, Root: root, Session: session}),
				side: side, gate: g, addr: addr, root: root, dir: root + ordersDir,
			})
		})
	}
}

type registered struct {
	conn            *Conn
	side            *zk.Conn
	gate            *gate
	addr, root, dir string
}

func (x registered) register(t *testing.T, r *Registrar, ep registry.Endpoint) registry.Lease {
	t.Helper()
	r.Conn = x.conn
	l, err := r.Register(short(t), "orders", ep)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (x registered) eventually(t *testing.T, what, name string, holds func(Instance, *zk.Stat) bool) {
	t.Helper()
	eventually(t, what, func() bool {
		in, stat, ok := nodeAt(t, x.side, x.dir+"/"+name)
		return ok && holds(in, stat)
	})
}

func testWritten(t *testing.T, x registered) {
	lease := x.register(t, &Registrar{}, registry.Endpoint{
		Address: "[2001:db8::1]:9000", Protocol: "trpc", TLS: true, Zone: "a", Weight: 7,
		Meta: map[string]string{"version": "1.2", "region": "north", "schema": "sha256:00", "team": "orders"},
	})
	in, stat, ok := nodeAt(t, x.side, x.dir+"/2001-db8--1-9000")
	if !ok {
		t.Fatal("want the node")
	}
	if _, err := time.Parse(time.RFC3339, in.RegisteredAt); err != nil {
		t.Error(err)
	}
	in.RegisteredAt = ""
	seven := int64(7)
	if d := cmp.Diff(Instance{
		V: 1, ID: "2001-db8--1-9000", Endpoints: []Offer{{"trpc", "2001:db8::1", 9000, true}}, Weight: &seven, Status: "up",
		Region: "north", Zone: "a", Version: "1.2", Schema: "sha256:00", Metadata: map[string]string{"team": "orders"},
	}, in); d != "" {
		t.Errorf("node (-want +got):\n%s", d)
	}
	if s, _ := x.conn.now(); stat.EphemeralOwner != s.session || s.session == 0 {
		t.Errorf("want an ephemeral node of session %x, found %+v", s.session, stat)
	}
	if _, above, err := x.side.Get(x.dir); err != nil || above.EphemeralOwner != 0 {
		t.Errorf("want the parent persistent, found %+v %v", above, err)
	}
	if err := lease.Close(short(t)); err != nil {
		t.Fatal(err)
	}
	if _, _, there := nodeAt(t, x.side, x.dir+"/2001-db8--1-9000"); there {
		t.Error("want the node gone with its lease")
	}
	for _, ep := range []registry.Endpoint{
		{Address: "a"},
		{Address: "a:x"},
		{Address: "a:0"},
		{Address: "a b:1"},
		{Address: "a:1", ID: "a/b"},
		{Address: "a:1", Meta: map[string]string{"x": strings.Repeat("x", 9<<10)}},
	} {
		if _, err := (&Registrar{Conn: x.conn}).Register(short(t), "orders", ep); err == nil {
			t.Errorf("%.80v: want it refused", ep)
		}
	}
}

// settled waits until a lease has seen that its node is as it should be, which it knows later than others who look.
func settled(t *testing.T, l *Lease) {
	t.Helper()
	eventually(t, "the lease to have seen its node", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.reached >= l.wanted
	})
}

func testExpired(t *testing.T, x registered) {
	lease, ok := x.register(t, &Registrar{Window: time.Minute}, registry.Endpoint{Address: "a:1"}).(*Lease) // it ends by its context
	if !ok {
		t.Fatal("want a *Lease")
	}
	before, _ := x.conn.now()
	_, first, _ := nodeAt(t, x.side, x.dir+"/a-1")
	x.gate.set(refuse)
	eventually(t, "the node expired", func() bool { _, _, ok := nodeAt(t, x.side, x.dir+"/a-1"); return !ok })
	x.gate.set(pass)
	x.eventually(t, "the node back", "a-1", func(in Instance, stat *zk.Stat) bool {
		return in.Status == "up" && stat.Czxid > first.Czxid && stat.EphemeralOwner != before.session
	})
	// Drained over an expiry, it comes back draining.
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- lease.Drain(ctx) }()
	x.eventually(t, "it draining", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "draining" })
	x.gate.set(refuse)
	eventually(t, "the node expired", func() bool { _, _, ok := nodeAt(t, x.side, x.dir+"/a-1"); return !ok })
	x.gate.set(pass)
	x.eventually(t, "it back", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "draining" })
	settled(t, lease)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func testGhost(t *testing.T, x registered) {
	ghost := plain(t, x.addr)
	mkdir(t, x.side, x.dir)
	_, data := instanceAt(t, "a:1")
	if _, err := ghost.Create(x.dir+"/a-1", []byte(data), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	sink, stop := registrytest.Watch(t, &Resolver{Conn: connect(t, Config{Servers: []string{x.addr}, Root: x.root})}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait("a:1")
	x.register(t, &Registrar{}, registry.Endpoint{Address: "a:1", Weight: 7})
	s, _ := x.conn.now()
	x.eventually(t, "the ghost replaced", "a-1", func(_ Instance, stat *zk.Stat) bool { return stat.EphemeralOwner == s.session })
	ghost.Close() // what it deletes is no longer its own
	sink.WaitSet("the new weight", func(s registry.Set) bool { return len(s.Endpoints) == 1 && s.Endpoints[0].Weight == 7 })
	if sink.Emptied() != 0 {
		t.Error("want nobody to see the place empty")
	}
}

func testSpoiled(t *testing.T, x registered) {
	x.register(t, &Registrar{}, registry.Endpoint{Address: "a:1"})
	s, _ := x.conn.now()
	right := func(in Instance, stat *zk.Stat) bool {
		return in.Status == "up" && in.Endpoints[0].Host == "a" && stat.EphemeralOwner == s.session
	}
	if err := x.side.Delete(x.dir+"/a-1", -1); err != nil {
		t.Fatal(err)
	}
	x.eventually(t, "the node back", "a-1", right)
	for _, data := range []string{"garbage", "", `{"v":1,"id":"a-1","endpoints":[{"protocol":"grpc","host":"evil","port":1}]}`} {
		put(t, x.side, x.dir+"/a-1", data)
		x.eventually(t, "the data back", "a-1", right)
	}
	if _, err := x.side.Multi(&zk.DeleteRequest{Path: x.dir + "/a-1", Version: -1},
		&zk.CreateRequest{Path: x.dir + "/a-1", Data: []byte("x"), Acl: zk.WorldACL(zk.PermAll)}); err != nil {
		t.Fatal(err)
	}
	x.eventually(t, "the node taken back", "a-1", right)
	// The parents, too.
	if err := x.side.Delete(x.dir+"/a-1", -1); err == nil {
		if err := x.side.Delete(x.dir, -1); err != nil && !errors.Is(err, zk.ErrNotEmpty) {
			t.Fatal(err)
		}
	}
	x.eventually(t, "the node back below new parents", "a-1", right)
}

func testInspect(t *testing.T, x registered) {
	if names, err := x.conn.Services(short(t), nil); len(names) != 0 || err != nil {
		t.Errorf("want no service, found %v %v", names, err)
	}
	if entries, err := x.conn.Inspect(short(t), nil, "orders"); len(entries) != 0 || err != nil {
		t.Errorf("want no instance, found %v %v", entries, err)
	}
	x.register(t, &Registrar{Beat: 10 * time.Millisecond, Load: func() float64 { return 0.25 }}, registry.Endpoint{Address: "a:1"})
	put(t, x.side, x.dir+"/b", "garbage")
	eventually(t, "a beat", func() bool {
		entries, err := x.conn.Inspect(short(t), nil, "orders")
		return err == nil && len(entries) == 2 && !entries[0].Beat.IsZero()
	})
	names, err := x.conn.Services(short(t), nil)
	if err != nil || !slices.Equal(names, []string{"orders"}) {
		t.Errorf("want orders, found %v %v", names, err)
	}
	entries, err := x.conn.Inspect(short(t), nil, "orders")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := x.conn.now()
	if a := entries[0]; a.Name != "a-1" || a.Owner != s.session || a.Load != 0.25 || a.Fault != nil || len(a.Endpoints) != 1 || a.Endpoints[0].Address != "a:1" || a.Czxid == 0 || a.Mzxid < a.Czxid || time.Since(a.Created).Abs() > time.Minute {
		t.Errorf("want the instance with its beat, found %+v", a)
	}
	if b := entries[1]; b.Name != "b" || b.Owner != 0 || string(b.Data) != "garbage" || b.Fault == nil || !b.Beat.IsZero() {
		t.Errorf("want what is no instance with its fault, found %+v", b)
	}
	if a, err := x.conn.InspectInstance(short(t), "orders", "a-1"); a.Name != "a-1" || a.Beat.IsZero() || err != nil {
		t.Errorf("want the one instance, found %+v %v", a, err)
	}
	if none, err := x.conn.InspectInstance(short(t), "orders", "none"); none.Path != "" || err != nil {
		t.Errorf("want nothing, found %+v %v", none, err)
	}
	for _, err := range []error{
		x.conn.Order(short(t), "orders", "b", registry.Up),
		x.conn.Order(short(t), "orders", "none", registry.Up),
		x.conn.Order(short(t), "a/b", "none", registry.Up),
		x.conn.Order(short(t), "orders", "a-1", registry.Starting),
	} {
		if err == nil {
			t.Error("want the order refused")
		}
	}
}

func testDrain(t *testing.T, x registered) {
	const window = 5 * time.Second
	l := x.register(t, &Registrar{Window: window, Beat: 10 * time.Millisecond}, registry.Endpoint{Address: "a:1"})
	eventually(t, "a beat", func() bool {
		there, _, err := x.side.Exists(x.root + "/v1/services/orders/beats/a-1")
		return there && err == nil
	})
	sink, stop := registrytest.Watch(t, &Resolver{Conn: x.conn}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait("a:1")
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- drain(short(t), []registry.Lease{l}) }()
	set := sink.WaitSet("it draining", func(s registry.Set) bool { return len(s.Endpoints) == 1 && s.Endpoints[0].Status == registry.Draining })
	if set.Endpoints[0].Weight != 100 {
		t.Errorf("want its weight told while it drains, found %+v", set.Endpoints[0])
	}
	sink.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < window {
		t.Errorf("want the window waited for, found %v", took)
	}
	if there, _, err := x.side.Exists(x.root + "/v1/services/orders/beats/a-1"); there || err != nil {
		t.Errorf("want the beat gone with its instance, found %v %v", there, err)
	}
	if err := l.Close(short(t)); err != nil {
		t.Errorf("want closing twice to be fine, found %v", err)
	}
	// Nobody to be told: the window is waited for, and it is said.
	l = x.register(t, &Registrar{Window: 100 * time.Millisecond}, registry.Endpoint{Address: "b:1"})
	x.gate.set(refuse)
	eventually(t, "the connection lost", func() bool { return x.conn.Err() != nil })
	if err := l.Drain(short(t)); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want it said that nobody was told, found %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); err == nil {
		t.Error("want it said that the node was left")
	}
}

func testHealth(t *testing.T, x registered) {
	var healthy atomic.Int32 // 0 error, 1 fine, 2 panic
	x.register(t, &Registrar{HealthEvery: 5 * time.Millisecond, Health: func(context.Context) error {
		switch healthy.Load() {
		case 0:
			return errors.New("not serving")
		case 2:
			panic("on purpose")
		}
		return nil
	}}, registry.Endpoint{Address: "a:1"})
	for _, step := range []struct {
		set  int32
		want string
	}{{0, "starting"}, {1, "up"}, {0, "down"}, {1, "up"}, {2, "down"}, {1, "up"}} {
		healthy.Store(step.set)
		x.eventually(t, step.want, "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == step.want })
	}
}

func TestRegisterWithoutServer(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	g := startGate(t, addr)
	g.set(refuse)
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 300 * time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := (&Registrar{Conn: conn}).Register(ctx, "orders", registry.Endpoint{Address: "a:1"})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "register a-1 of orders") {
		t.Errorf("want the end of the wait with what was asked for, found %v", err)
	}
	g.set(pass)
	// The lease that was given up announces nothing later.
	side := plain(t, addr)
	eventually(t, "a connection", func() bool { return conn.Err() == nil })
	if _, _, there := nodeAt(t, side, "/causeway"+ordersDir+"/a-1"); there {
		t.Error("want nothing announced after a failed Register")
	}
	if _, err := Register(short(t), Config{}, "orders", registry.Endpoint{Address: "a:1"}); err == nil {
		t.Error("want a configuration without servers refused")
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	conn := connect(t, Config{Servers: []string{addr}, Session: time.Second})
	lease, err := (&Registrar{Conn: conn}).Register(short(t), "orders", registry.Endpoint{Address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	conn.Close()
	if _, err := (&Registrar{Conn: conn}).Register(short(t), "orders", registry.Endpoint{Address: "b:1"}); !errors.Is(err, errClosed) {
		t.Errorf("register: want it said that the connection is closed, found %v", err)
	}
	if _, err := conn.Services(short(t), nil); !errors.Is(err, errClosed) {
		t.Errorf("services: want it said that the connection is closed, found %v", err)
	}
	if err := lease.Close(short(t)); err != nil {
		t.Errorf("want a lease to end with its connection, found %v", err)
	}
	if _, _, there := nodeAt(t, plain(t, addr), "/causeway"+ordersDir+"/a-1"); there {
		t.Error("want the node gone with its session")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := (&Resolver{Conn: conn}).Watch(ctx, "orders", registrytest.NewSink(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want a watch to end with its context, found %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Servers: []string{"localhost"}},
		{Servers: []string{"a:1"}, Root: "x"},
		{Servers: []string{"a:1"}, Root: "/x/"},
		{Servers: []string{"a:1"}, Auth: "user"},
	} {
		if c, err := Connect(cfg); err == nil {
			c.Close()
			t.Errorf("%+v: want it refused", cfg)
		}
	}
}

func TestDrainOnSignal(t *testing.T) {
	_, addr := startDev(t)
	side := plain(t, addr)
	lease, err := Register(short(t), Config{Servers: []string{addr}, Session: 300 * time.Millisecond}, "orders", registry.Endpoint{Address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	lease.r.Window = 3 * time.Second
	heard := make(chan os.Signal, 16) // so that a signal that comes too early does not end the tests
	signal.Notify(heard, syscall.SIGTERM)
	defer signal.Stop(heard)
	done := make(chan error, 1)
	go func() { done <- DrainOnSignal(short(t), lease) }()
	eventually(t, "it draining on SIGTERM", func() bool {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		return lease.Status() == registry.Draining
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, _, there := nodeAt(t, side, "/causeway"+ordersDir+"/a-1"); there {
		t.Error("want it withdrawn")
	}
}

func TestAuthAndTLS(t *testing.T) {
	t.Parallel()
	server := devserver.New(devserver.Config{Tick: 150 * time.Millisecond})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plainListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	go func() {
		served <- server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	}()
	go func() { served <- server.Serve(plainListener) }()
	t.Cleanup(func() {
		_ = server.Close()
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})

	g := startGate(t, l.Addr().String())
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 300 * time.Millisecond, TLS: &tls.Config{RootCAs: pool}, Auth: "gateway:secret"})
	if _, err := (&Registrar{Conn: conn}).Register(short(t), "orders", registry.Endpoint{Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	side := plain(t, plainListener.Addr().String())
	path := "/causeway" + ordersDir + "/a-1"
	acl, _, err := side.GetACL(path)
	if want := append(zk.DigestACL(zk.PermAll, "gateway", "secret"), zk.WorldACL(zk.PermRead)...); err != nil || !slices.Equal(acl, want) {
		t.Errorf("want the node its writer's and read by all, found %v %v", acl, err)
	}
	if err := side.Delete(path, -1); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("want others to delete nothing, found %v", err)
	}
	// The credentials are sent again with every session.
	server.ExpireSessions()
	side = plain(t, plainListener.Addr().String())
	eventually(t, "the node back", func() bool { _, _, ok := nodeAt(t, side, path); return ok })

	stranger := connect(t, Config{Servers: []string{g.addr()}, Session: 300 * time.Millisecond, TLS: &tls.Config{}})
	var unknown x509.UnknownAuthorityError
	eventually(t, "an unknown certificate refused", func() bool { return errors.As(stranger.Err(), &unknown) })
}

// TestServerRestarts needs a server whose data outlives it, and can be lost.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	z := realserver.StartZooKeeper(t)
	conn := connect(t, Config{Servers: []string{z.Address}, Session: 9 * time.Second})
	if _, err := (&Registrar{Conn: conn}).Register(short(t), "orders", registry.Endpoint{Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait("a:1")
	path := "/causeway" + ordersDir + "/a-1"
	first, _ := conn.now()

	z.Kill()
	if err := sink.WaitFail(); err == nil {
		t.Error("want the outage told")
	}
	z.Start()
	sink.Wait("a:1")
	if now, _ := conn.now(); now.session != first.session || now.generation != first.generation {
		t.Errorf("want the session of a server that comes back kept, found %+v after %+v", now, first)
	}

	// With its data the server has lost its clock: it refuses who has seen later changes, for ever.
	z.Kill()
	z.Wipe()
	z.Start()
	side := plain(t, z.Address)
	eventually(t, "the instance in the new tree", func() bool { _, _, ok := nodeAt(t, side, path); return ok })
	sink.Wait("a:1")
}
