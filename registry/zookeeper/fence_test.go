package zookeeper

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry/registrytest"
)

// liar accepts connections, answers the handshake and then every request with what answer returns.
func liar(t testing.TB, answer func(xid, op int32) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, conns: map[net.Conn]struct{}{}}
	g.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() {
				defer c.Close()
				if g.keep(c) == pass {
					lie(c, answer)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.set(refuse)
		g.all.Wait()
	})
	return l.Addr().String()
}

// lie serves one connection until it ends.
func lie(c net.Conn, answer func(xid, op int32) []byte) {
	for first := true; ; first = false {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		out := connected(20_000)
		if !first {
			out = answer(be32(b), be32(b[4:]))
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// connected is a sound answer to connect, as a frame.
func connected(timeout int32) []byte {
	b := make([]byte, 4+36)
	binary.BigEndian.PutUint32(b, 36)
	binary.BigEndian.PutUint32(b[8:], uint32(timeout))
	binary.BigEndian.PutUint64(b[12:], 7)
	binary.BigEndian.PutUint32(b[20:], 16)
	return b
}

// frameOf puts a length before a header and a body.
func frameOf(xid int32, code int32, body ...byte) []byte {
	b := make([]byte, 20, 20+len(body))
	binary.BigEndian.PutUint32(b, uint32(16+len(body)))
	binary.BigEndian.PutUint32(b[4:], uint32(xid))
	binary.BigEndian.PutUint32(b[16:], uint32(code))
	return append(b, body...)
}

func TestFenceRefusesWhatWouldEndTheProcess(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(xid, op int32) []byte{
		"a length below a header's":        func(int32, int32) []byte { return []byte{0, 0, 0, 5, 0, 0, 0, 0, 0} },
		"a length beyond the limit":        func(int32, int32) []byte { return []byte{0x7f, 0xff, 0xff, 0xff} },
		"a negative length":                func(int32, int32) []byte { return []byte{0xff, 0xff, 0xff, 0xff} },
		"a vector of two thousand million": func(xid, _ int32) []byte { return frameOf(xid, 0, 0x7f, 0xff, 0xff, 0xff) },
		"a negative vector":                func(xid, _ int32) []byte { return frameOf(xid, 0, 0xff, 0xff, 0xff, 0xfe) },
		"no body":                          func(xid, _ int32) []byte { return frameOf(xid, 0) },
		"an answer to nobody":              func(xid, _ int32) []byte { return frameOf(xid+1, 0) },
		"an event without a path":          func(int32, int32) []byte { return frameOf(-1, 0, 0, 0, 0, 1) },
		"an event with half a path":        func(int32, int32) []byte { return frameOf(-1, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 9, '/') },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, Config{Servers: []string{liar(t, answer)}, Session: 20 * time.Second})
			eventually(t, "a session", func() bool { return conn.Err() == nil })
			s, _ := conn.now()
			_, err := do(short(t), conn, s.generation, func(z *zk.Conn) ([]string, error) { names, _, err := z.Children("/"); return names, err })
			if !lost(err) {
				t.Errorf("want the connection lost, found %v", err)
			}
			eventually(t, "the reason told", func() bool {
				err := conn.Err()
				return err == nil || strings.Contains(err.Error(), "is this a ZooKeeper server?")
			})
		})
	}
}

func TestFenceHandshake(t *testing.T) {
	t.Parallel()
	t.Run("a server that says nothing is left after a third of the session", func(t *testing.T) {
		t.Parallel()
		_, addr := startDev(t)
		g := startGate(t, addr)
		g.set(hold)
		conn := connect(t, Config{Servers: []string{g.addr()}, Session: 900 * time.Millisecond})
		// The library alone would come back after 6 s.
		eventually(t, "a third connection", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.taken >= 3 })
		var timeout net.Error
		eventually(t, "the reason told", func() bool { return errors.As(conn.Err(), &timeout) && timeout.Timeout() })
		g.set(pass)
		eventually(t, "a session", func() bool { return conn.Err() == nil })
		// One that falls silent later.
		g.set(hold)
		eventually(t, "the connection lost", func() bool { return conn.Err() != nil })
		g.set(pass)
		eventually(t, "a session", func() bool { return conn.Err() == nil })
	})
	t.Run("a member that is there after one that is not", func(t *testing.T) {
		t.Parallel()
		_, addr := startDev(t)
		g := startGate(t, addr)
		g.set(hold)
		conn := connect(t, Config{Servers: []string{g.addr(), "127.0.0.1:1", "no.such.host.invalid:2181", addr}, Session: 900 * time.Millisecond})
		eventually(t, "a session", func() bool { return conn.Err() == nil })
	})
}

// TestFenceAnotherProtocol runs alone, for it counts memory.
func TestFenceAnotherProtocol(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") //nolint:errcheck // the client shows it
			c.Close()
		}
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	conn := connect(t, Config{Servers: []string{l.Addr().String()}, Session: 300 * time.Millisecond})
	eventually(t, "the reason told", func() bool {
		err := conn.Err()
		return err != nil && strings.Contains(err.Error(), "want a frame of 20 to 4096 bytes, found 1213486160: is this a ZooKeeper server?")
	})
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 { // other tests allocate beside; the library alone takes 1,158 MiB
		t.Errorf("want little memory for a false length, found %d MiB", grown>>20)
	}
}

// TestMissedEventsComeAfterReconnect holds the fence to what it masks: answers that come before the library has sent its
// watches again carry no number of a change.
func TestMissedEventsComeAfterReconnect(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	f := newFence(here, time.Minute, func(int64, time.Duration) {}, func(error) {})
	defer f.Close()
	f.mask = time.Now().Add(time.Minute)
	answers := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 1<<10)
		for {
			if _, err := there.Read(buf); err != nil {
				return
			}
			if _, err := there.Write(<-answers); err != nil {
				return
			}
		}
	}()
	// ask sends a request and returns the number in the header of its answer.
	ask := func(xid, op int32, answer []byte) int64 {
		t.Helper()
		request := make([]byte, 12)
		binary.BigEndian.PutUint32(request, 8)
		binary.BigEndian.PutUint32(request[4:], uint32(xid))
		binary.BigEndian.PutUint32(request[8:], uint32(op))
		answers <- answer
		if _, err := f.Write(request); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(answer))
		if _, err := io.ReadFull(f, b); err != nil {
			t.Fatal(err)
		}
		if len(b) < 20 {
			t.Fatal("want a header")
		}
		return int64(binary.BigEndian.Uint64(b[8:]))
	}
	numbered := func(xid int32) []byte {
		b := frameOf(xid, 0)
		binary.BigEndian.PutUint64(b[8:], 77)
		return b
	}
	ask(0, 0, connected(1000)) // the handshake
	if got := ask(1, 100, numbered(1)); got != 0 {
		t.Errorf("want no number before the watches are sent, found %d", got)
	}
	if got := ask(2, opSetWatches, numbered(2)); got != 77 {
		t.Errorf("want the number after that, found %d", got)
	}
	if got := ask(3, 2, numbered(3)); got != 77 {
		t.Errorf("want the number after that, found %d", got)
	}
}

func TestAnswerThatIsTooLong(t *testing.T) {
	t.Parallel()
	const n = 9000
	name := strings.Repeat("x", 500)
	addr := liar(t, func(xid, op int32) []byte {
		if op != 12 {
			return frameOf(xid, 0, make([]byte, statSize)...)
		}
		body := binary.BigEndian.AppendUint32(nil, n)
		for range n {
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(name))), name...)
		}
		return frameOf(xid, 0, append(body, make([]byte, statSize)...)...)
	})
	conn := connect(t, Config{Servers: []string{addr}, Session: 20 * time.Second})
	eventually(t, "a session", func() bool { return conn.Err() == nil })
	s, _ := conn.now()
	if _, err := do(short(t), conn, s.generation, func(z *zk.Conn) ([]string, error) { names, _, err := z.Children("/"); return names, err }); !errors.Is(err, errTooLong) {
		t.Errorf("want %v, found %v", errTooLong, err)
	}
	if _, err := do(short(t), conn, s.generation, func(z *zk.Conn) (bool, error) { b, _, err := z.Exists("/"); return b, err }); err != nil {
		t.Errorf("want the connection kept for others, found %v", err)
	}
	if now, _ := conn.now(); now.links != s.links {
		t.Errorf("want one connection, found %d", now.links)
	}
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn}, "orders")
	defer stop() //nolint:errcheck // the context's error
	if err := sink.WaitFail(); !errors.Is(err, errTooLong) {
		t.Errorf("want it told, found %v", err)
	}
}

func TestRequestWithoutAnswer(t *testing.T) {
	t.Parallel()
	// Pings are answered, nothing else: the library would wait for ever.
	addr := liar(t, func(xid, _ int32) []byte {
		if xid == -2 {
			return frameOf(xid, 0)
		}
		return nil
	})
	conn := connect(t, Config{Servers: []string{addr}, Session: 300 * time.Millisecond})
	eventually(t, "a session", func() bool { return conn.Err() == nil })
	s, _ := conn.now()
	if _, err := do(short(t), conn, s.generation, func(z *zk.Conn) (bool, error) { b, _, err := z.Exists("/"); return b, err }); !errors.Is(err, errLost) {
		t.Errorf("want the request given up with its connection, found %v", err)
	}
}

// FuzzAnswers lets a server answer with anything, through the fence, to the library itself: whatever passes the fence must not
// end the process.
func FuzzAnswers(f *testing.F) {
	f.Add(uint8(0), append(binary.BigEndian.AppendUint32(nil, 0), make([]byte, statSize)...))
	f.Add(uint8(1), append([]byte{0, 0, 0, 1, 'x'}, make([]byte, statSize)...))
	f.Add(uint8(2), append([]byte{0, 0, 0, 1, 0, 0, 0, 31, 0, 0, 0, 1, 'w', 0, 0, 0, 1, 'a'}, make([]byte, statSize)...))
	f.Add(uint8(3), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, '/', 'a', 0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint8(4), []byte{0, 0, 0, 2, '/', 'a'})
	f.Add(uint8(5), make([]byte, statSize))
	f.Add(uint8(6), []byte{0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, '/'})
	closing := make(chan struct{}, 64) // the library may take a second to close
	f.Cleanup(func() {
		for range cap(closing) {
			closing <- struct{}{}
		}
	})
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		if len(body) > 60<<10 {
			return
		}
		here, there := net.Pipe()
		defer there.Close()
		dials := 0
		z, _, err := zk.Connect([]string{"x:1"}, 3*time.Second, zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithHostProvider(&hosts{}),
			zk.WithMaxBufferSize(64<<10), zk.WithMaxConnBufferSize(64<<10),
			zk.WithDialer(func(string, string, time.Duration) (net.Conn, error) {
				if dials++; dials > 1 {
					return nil, errLost
				}
				return newFence(here, time.Second, func(int64, time.Duration) {}, func(error) { here.Close() }), nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		go lie(there, func(xid, op int32) []byte {
			switch {
			case xid == -2, op == -11:
				return frameOf(xid, 0)
			case which%8 == 6: // as an event, and then as the answer
				return append(frameOf(-1, 0, body...), frameOf(xid, -101)...)
			case which%8 == 7: // as a frame of its own making, after which nothing comes
				defer time.AfterFunc(time.Millisecond, func() { there.Close() })
				return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
			}
			return frameOf(xid, 0, body...)
		})
		switch which % 8 {
		case 0:
			_, _, err = z.Children("/")
		case 1:
			_, _, err = z.Get("/")
		case 2:
			_, _, err = z.GetACL("/")
		case 3:
			_, err = z.Multi(&zk.CreateRequest{Path: "/a", Acl: zk.WorldACL(1)})
		case 4:
			_, err = z.Create("/a", nil, 0, zk.WorldACL(1))
		default:
			_, _, _, err = z.ExistsW("/")
		}
		_ = err // sound or not, it has returned
		closing <- struct{}{}
		go func() {
			z.Close()
			<-closing
		}()
	})
}

// TestPatienceGrows holds that servers which all take longer for a handshake than a member may have get more time, up to a session.
func TestPatienceGrows(t *testing.T) {
	t.Parallel()
	const session = 3 * time.Second
	_, addr := startDev(t)
	slow := func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return &slowConn{Conn: c, after: session / 2}, nil
	}
	conn := connect(t, Config{Servers: []string{"a:1"}, Session: session, Dial: slow})
	eventually(t, "a session", func() bool { return conn.Err() == nil })
}

// slowConn reads its first byte late.
type slowConn struct {
	net.Conn
	after time.Duration
	begun bool
	until time.Time
}

// SetReadDeadline and SetDeadline note how long the reader may wait.
func (c *slowConn) SetReadDeadline(t time.Time) error { c.until = t; return c.Conn.SetReadDeadline(t) }

// SetDeadline notes it, too.
func (c *slowConn) SetDeadline(t time.Time) error { c.until = t; return c.Conn.SetDeadline(t) }

// Read waits before the first byte, as a server with much to do has its clients wait.
func (c *slowConn) Read(p []byte) (int, error) {
	if !c.begun {
		c.begun = true
		wait := c.after
		if !c.until.IsZero() {
			wait = min(wait, time.Until(c.until))
		}
		pause(context.Background(), wait)
	}
	return c.Conn.Read(p)
}
