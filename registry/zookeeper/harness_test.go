package zookeeper

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if runtime.GOMAXPROCS(0) < 4 { // most of the tests wait most of the time
		if err := flag.Set("test.parallel", "4"); err != nil {
			os.Exit(2)
		}
	}
	goleak.VerifyTestMain(m)
}

// startDev starts a development server with ticks of 150 ms, so with sessions of 300 ms to 3 s.
func startDev(t testing.TB) (*devserver.Server, string) {
	t.Helper()
	s := devserver.New(devserver.Config{Tick: 150 * time.Millisecond, Vanish: 20 * time.Millisecond})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// onServers runs a test against a development server and against Debian's ZooKeeper; session is the shortest that is
// sensible there.
func onServers(t *testing.T, run func(t *testing.T, addr string, session time.Duration)) {
	t.Run("devserver", func(t *testing.T) {
		t.Parallel()
		_, addr := startDev(t)
		run(t, addr, 900*time.Millisecond)
	})
	t.Run("zookeeper", func(t *testing.T) {
		t.Parallel()
		run(t, realserver.StartZooKeeper(t).Address, 1500*time.Millisecond)
	})
}

// connect connects; the connection ends with the test.
func connect(t testing.TB, cfg Config) *Conn {
	t.Helper()
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c, err := Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// plain is the library as it is, for what tests do beside.
func plain(t testing.TB, addr string) *zk.Conn {
	t.Helper()
	c, _, err := zk.Connect([]string{addr}, 10*time.Second, zk.WithLogger(quiet{}), zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// untilDone does something again while the connection is lost, as it is where the machine stands still.
func untilDone(t testing.TB, what func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(90 * time.Second); ; <-tick.C {
		err := what()
		if err == nil {
			return
		}
		if !lost(err) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// mkdir makes a persistent node and those above it.
func mkdir(t testing.TB, c *zk.Conn, path string) {
	t.Helper()
	for at := 1; at <= len(path); at++ {
		if at < len(path) && path[at] != '/' {
			continue
		}
		untilDone(t, func() error {
			_, err := c.Create(path[:at], nil, 0, zk.WorldACL(zk.PermAll))
			if errors.Is(err, zk.ErrNodeExists) {
				err = nil
			}
			return err
		})
	}
}

// put makes a persistent node with data, or sets its data.
func put(t testing.TB, c *zk.Conn, path, data string) {
	t.Helper()
	dir, _, _ := cutLast(path)
	if dir != "" {
		mkdir(t, c, dir)
	}
	untilDone(t, func() error {
		_, err := c.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll))
		if errors.Is(err, zk.ErrNodeExists) {
			_, err = c.Set(path, []byte(data), -1)
		}
		return err
	})
}

// instanceAt is the data of an instance at an address, and its id.
func instanceAt(t testing.TB, address string) (id, data string) {
	t.Helper()
	in, err := newInstance(registry.Endpoint{Address: address}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return in.ID, string(b)
}

// setInstances makes a service be at these addresses and no others.
func setInstances(t testing.TB, c *zk.Conn, dir string, addresses ...string) {
	t.Helper()
	mkdir(t, c, dir)
	var names []string
	untilDone(t, func() (err error) { names, _, err = c.Children(dir); return err })
	var keep []string
	for _, a := range addresses {
		id, data := instanceAt(t, a)
		keep = append(keep, id)
		if !slices.Contains(names, id) {
			put(t, c, dir+"/"+id, data)
		}
	}
	for _, name := range names {
		if !slices.Contains(keep, name) {
			untilDone(t, func() error {
				err := c.Delete(dir+"/"+name, -1)
				if errors.Is(err, zk.ErrNoNode) {
					err = nil
				}
				return err
			})
		}
	}
}

// eventually waits until holds does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(90 * time.Second); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("want %s, not so after 90 s", what)
		}
	}
}

func short(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// gate stands between a client and a server and does what networks do.
type gate struct {
	l      net.Listener
	target string
	all    sync.WaitGroup

	mu    sync.Mutex
	mode  gateMode
	conns map[net.Conn]struct{}
	taken int
}

type gateMode int

const (
	pass   gateMode = iota
	refuse          // connections end at once
	hold            // connections are taken, and nothing is said
)

func startGate(t testing.TB, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, target: target, conns: map[net.Conn]struct{}{}}
	g.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() { g.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.set(refuse)
		g.all.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.l.Addr().String() }

// set changes the mode. Those there are ended, or with hold kept and no longer served.
func (g *gate) set(m gateMode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mode = m
	if m != hold {
		for c := range g.conns {
			c.Close()
		}
	}
}

func (g *gate) keep(c net.Conn) gateMode {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken++
	if g.mode == refuse {
		c.Close()
	} else {
		g.conns[c] = struct{}{}
	}
	return g.mode
}

func (g *gate) holding() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode == hold
}

func (g *gate) serve(c net.Conn) {
	defer func() {
		c.Close()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.conns, c)
	}()
	switch g.keep(c) {
	case refuse:
		return
	case hold:
		io.Copy(io.Discard, c) //nolint:errcheck // until it is ended
		return
	}
	up, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer up.Close()
	copyTo := func(to, from net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if err == nil && g.holding() {
				continue
			}
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				to.Close()
				from.Close()
				return
			}
		}
	}
	g.all.Go(func() { copyTo(c, up) })
	copyTo(up, c)
}
