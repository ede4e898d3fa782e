package devserver

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// raw is a client that shows every packet in the order in which the server sent it, and can say what the library cannot.
type raw struct {
	t         testing.TB
	nc        net.Conn
	xid       int32
	events    []event // seen while waiting for an answer
	sessionID int64
	password  []byte
	timeout   time.Duration
}

// long is a session that the server makes as long as it may be.
const long = time.Minute

func dialRaw(t testing.TB, addr string, timeout time.Duration, sid int64, password []byte, seen int64) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &raw{t: t, nc: nc}
	b := appendInt64(appendInt32(nil, 0), seen)
	b = appendInt64(appendInt32(b, int32(timeout.Milliseconds())), sid)
	if password == nil {
		password = make([]byte, 16)
	}
	c.write(appendBool(appendBuffer(b, password), false))
	r := reader{b: c.packet()}
	if len(r.b) == 0 {
		return c // the server has hung up
	}
	r.int32()
	c.timeout = time.Duration(r.int32()) * time.Millisecond
	c.sessionID, c.password = r.int64(), r.buffer()
	if r.bool() || r.err != nil {
		t.Fatalf("want an answer to connect that ends with false, found error %v", r.err)
	}
	return c
}

func (c *raw) write(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(append(appendInt32(nil, int32(len(b))), b...)); err != nil {
		c.t.Fatal(err)
	}
}

// packet returns nil when the server has hung up.
func (c *raw) packet() []byte {
	c.t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.nc, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// call returns the answer's code and body; events that come first are kept.
func (c *raw) call(op int32, body []byte) (code, []byte) {
	c.t.Helper()
	c.xid++
	xid := c.xid
	switch op {
	case opPing:
		xid = -2
	case opAuth:
		xid = -4
	}
	c.write(append(appendInt32(appendInt32(nil, xid), op), body...))
	for {
		b := c.packet()
		if b == nil {
			c.t.Fatal("want an answer, the server has hung up")
		}
		r := reader{b: b}
		got, _, err := r.int32(), r.int64(), code(r.int32())
		if got == -1 {
			c.event(&r)
			continue
		}
		if got != xid {
			c.t.Fatalf("want the answer to %d, found that to %d", xid, got)
		}
		return err, r.b
	}
}

func (c *raw) event(r *reader) {
	e := event{typ: r.int32()}
	r.int32()
	e.path = r.string()
	c.events = append(c.events, e)
}

// mustCall fails unless the answer is ok.
func (c *raw) mustCall(op int32, body []byte) []byte {
	c.t.Helper()
	err, b := c.call(op, body)
	if err != ok {
		c.t.Fatalf("operation %d: want it done, found code %d", op, err)
	}
	return b
}

// saw compares the events that came before the last answer with those wanted, and forgets them.
func (c *raw) saw(want ...event) {
	c.t.Helper()
	if d := cmp.Diff(want, c.events, cmp.AllowUnexported(event{})); d != "" {
		c.t.Errorf("events (-want +got):\n%s", d)
	}
	c.events = nil
}

func watchPath(path string, watch bool) []byte { return appendBool(appendString(nil, path), watch) }

func createBody(path, data string, k kind) []byte {
	return appendInt32(appendACLs(appendBuffer(appendString(nil, path), []byte(data)), openACL()), int32(k))
}

func setBody(path, data string) []byte {
	return appendInt32(appendBuffer(appendString(nil, path), []byte(data)), -1)
}

func deleteBody(path string) []byte { return appendInt32(appendString(nil, path), -1) }
