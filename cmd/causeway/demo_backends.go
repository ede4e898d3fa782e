package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/causeway-gateway/causeway/cmd/causeway/servant"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
)

// demoSession is how long ZooKeeper keeps what a demo instance has registered after its death.
const demoSession = 2 * time.Second

// backends are the demo's services with their ZooKeeper: instances that serve from one memory, so that it does not matter which
// one a call meets.
type backends struct {
	zk        *devserver.Server
	zkAddress string
	instances []*instance
	log       *slog.Logger
	running   sync.WaitGroup
}

// instance is one process of a service, as far as the demo can show it: a server with a connection to ZooKeeper.
type instance struct {
	address  string
	protocol string
	stop     func() // at once
	zk       *zookeeper.Conn
	line     *line
	once     sync.Once
}

// startZooKeeper serves ZooKeeper's protocol at the address wanted or at a free port.
func (b *backends) startZooKeeper(address string) error {
	ln, err := net.Listen("tcp", freeAddress(address)) //nolint:noctx // binding does not wait
	if err != nil {
		return err
	}
	b.zk, b.zkAddress = devserver.New(devserver.Config{Tick: demoSession / 4, Log: b.log}), ln.Addr().String()
	b.run("the ZooKeeper", func() error { return b.zk.Serve(ln) })
	return nil
}

// run runs part of the demo until it ends.
func (b *backends) run(what string, f func() error) {
	b.running.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				b.log.Error("panic in "+what, "panic", r)
			}
		}()
		if err := f(); err != nil {
			b.log.Error(what+" ended", "error", err)
		}
	})
}

// startGRPC starts an instance that serves gRPC, at the address wanted or at a free port.
func (b *backends) startGRPC(address string, services ...interface{ Register(*grpc.Server) }) (*instance, error) {
	ln, err := net.Listen("tcp", freeAddress(address)) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer()
	for _, sv := range services {
		sv.Register(s)
	}
	reflection.Register(s)
	b.run("a service", func() error {
		if err := s.Serve(ln); !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	in := &instance{address: ln.Addr().String(), stop: s.Stop}
	b.instances = append(b.instances, in)
	return in, nil
}

// startServant starts an instance that speaks TARS or tRPC at a free port, and announces it.
func (b *backends) startServant(ctx context.Context, s *servant.Server, protocol, name string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		return err
	}
	b.run("a service", func() error { return s.Serve(ln) })
	in := &instance{address: ln.Addr().String(), stop: s.Stop}
	b.instances = append(b.instances, in)
	return b.register(ctx, in, protocol, name)
}

// register announces an instance under names, as every service does by itself.
func (b *backends) register(ctx context.Context, in *instance, protocol string, names ...string) error {
	in.protocol, in.line = protocol, &line{}
	var err error
	if in.zk, err = zookeeper.Connect(zookeeper.Config{Servers: []string{b.zkAddress}, Session: demoSession, Dial: in.line.dial}); err != nil {
		return err
	}
	r := &zookeeper.Registrar{Conn: in.zk}
	for _, name := range names {
		if _, err := r.Register(ctx, name, registry.Endpoint{Address: in.address, Protocol: protocol}); err != nil {
			return err
		}
	}
	return nil
}

// kill ends an instance as SIGKILL does: its connections break, and nobody tells ZooKeeper.
func (in *instance) kill() {
	if in.line != nil {
		in.line.cut()
	}
	in.once.Do(in.stop)
}

// close ends everything.
func (b *backends) close() {
	for _, in := range b.instances {
		in.once.Do(in.stop)
		if in.zk != nil {
			in.zk.Close()
		}
	}
	if b.zk != nil {
		if err := b.zk.Close(); err != nil {
			b.log.Warn("the ZooKeeper did not close", "error", err)
		}
	}
	b.running.Wait()
}

// line is an instance's way to ZooKeeper, which can be cut.
type line struct {
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

var errDead = errors.New("the process is dead")

func (l *line) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil, errors.Join(errDead, c.Close())
	}
	l.conns = append(l.conns, c)
	return c, nil
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.conns {
		_ = c.Close() // it is cut either way
	}
}

// calls asks for an order again and again, at a steady pace, until done is closed, and counts.
func (d *demo) calls(ctx context.Context, done <-chan struct{}) (all, failed int, last error) {
	const pace = 5 * time.Millisecond
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return all, failed, last
		case <-ctx.Done():
			return all, failed, ctx.Err()
		case <-tick.C:
		}
		all++
		if err := d.ask(ctx); err != nil {
			failed, last = failed+1, err
		}
	}
}

func (d *demo) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.gateway+"/v1/orders/1", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return nil
}

// survive kills an instance while it is called: no call fails, and ZooKeeper forgets it when its session is over.
func (d *demo) survive(ctx context.Context, p *printer) error {
	dead := d.backends.instances[1]
	done := make(chan struct{})
	type outcome struct {
		all, failed int
		err         error
	}
	told := make(chan outcome, 1)
	d.backends.run("the calls", func() error {
		var o outcome
		o.all, o.failed, o.err = d.calls(ctx, done)
		told <- o
		return nil
	})
	begun := time.Now()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	wait := func(what string, holds func(used, known bool) bool) error {
		for {
			used, known := d.knows(dead.address)
			if holds(used, known) {
				return nil
			}
			if time.Since(begun) > 30*time.Second {
				return fmt.Errorf("waited in vain for %s", what)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-look.C:
			}
		}
	}
	err := wait("both instances to be called", func(used, _ bool) bool { return used && time.Since(begun) > 500*time.Millisecond })
	killed := time.Now()
	dead.kill()
	if err == nil {
		err = wait("the dead instance to be avoided", func(used, _ bool) bool { return !used })
	}
	avoided := time.Since(killed)
	if err == nil {
		err = wait("the dead instance to be forgotten", func(_, known bool) bool { return !known })
	}
	forgotten := time.Since(killed)
	close(done)
	o := <-told
	if err = errors.Join(err, o.err); err != nil || o.failed > 0 {
		return fmt.Errorf("killing an instance: %d of %d calls failed: %w", o.failed, o.all, err)
	}
	p.printf("✓ the instance at %s is killed while it is called, and nobody tells ZooKeeper\n    %d calls, %d failed; avoided after %s, gone from ZooKeeper after %s (session %s)\n\n",
		dead.address, o.all, o.failed, avoided.Round(time.Millisecond), forgotten.Round(10*time.Millisecond), demoSession)
	return nil
}

// knows tells whether the gateway uses an instance of the orders, and whether it knows it at all.
func (d *demo) knows(address string) (used, known bool) {
	for _, s := range d.app.gateway.Services() {
		for i := range s.Instances {
			if s.Service == "orders" && s.Instances[i].Address == address {
				return s.Instances[i].Used, true
			}
		}
	}
	return false, false
}

// addresses lists the instances that speak a protocol.
func (b *backends) addresses(protocol string) string {
	var out []string
	for _, in := range b.instances {
		if in.protocol == protocol {
			out = append(out, in.address)
		}
	}
	return strings.Join(out, ", ")
}
