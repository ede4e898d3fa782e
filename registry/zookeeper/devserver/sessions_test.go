package devserver

import (
	"bytes"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

func testSessions(t *testing.T, addr string, tick time.Duration, c *zk.Conn, root string) {
	for ask, want := range map[time.Duration]time.Duration{tick: 2 * tick, 5 * tick: 5 * tick, 1000 * tick: 20 * tick} {
		if got := dialRaw(t, addr, ask, 0, nil, 0).timeout; got != want {
			t.Errorf("a session of %v: want %v, found %v", ask, want, got)
		}
	}
	first := dialRaw(t, addr, 20*tick, 0, nil, 0)
	first.mustCall(opCreate, createBody(root+"/e", "", ephemeral))
	first.mustCall(opGetChildren, watchPath(root, true))
	first.nc.Close()
	again := dialRaw(t, addr, 20*tick, first.sessionID, first.password, 0)
	if again.sessionID != first.sessionID || !bytes.Equal(again.password, first.password) {
		t.Fatalf("want session %x, found %x", first.sessionID, again.sessionID)
	}
	if exists, _, err := c.Exists(root + "/e"); !exists || err != nil {
		t.Errorf("want the node of a session that goes on, found %v %v", exists, err)
	}
	again.mustCall(opCreate, createBody(root+"/other", "", persistent))
	again.saw() // watches are their connection's

	// A second connection takes the session over.
	taker := dialRaw(t, addr, 20*tick, again.sessionID, again.password, 0)
	taker.mustCall(opPing, nil)
	again.write(appendInt32(appendInt32(nil, 1), opPing))
	for answers := 0; again.packet() != nil; answers++ {
		if answers > 1 {
			t.Fatal("want the former connection of a session ended")
		}
	}

	wrong := dialRaw(t, addr, 20*tick, taker.sessionID, make([]byte, 16), 0)
	if wrong.sessionID != 0 || wrong.packet() != nil {
		t.Errorf("want a session of zeros and the connection's end for a wrong password, found %x", wrong.sessionID)
	}
	if exists, _, err := c.Exists(root + "/e"); !exists || err != nil {
		t.Errorf("want the node kept after a wrong password, found %v %v", exists, err)
	}
	taker = dialRaw(t, addr, 20*tick, again.sessionID, again.password, 0) // ZooKeeper has ended its connection, too
	_, _, gone, err := c.ExistsW(root + "/e")
	if err != nil {
		t.Fatal(err)
	}
	taker.mustCall(opCloseSession, nil)
	if taker.packet() != nil {
		t.Error("want the connection ended after its session")
	}
	waitFor(t, gone, zk.EventNodeDeleted)
	if closed := dialRaw(t, addr, 20*tick, taker.sessionID, taker.password, 0); closed.sessionID != 0 {
		t.Error("want a session that was closed gone")
	}
	if future := dialRaw(t, addr, 20*tick, 0, nil, math.MaxInt64); future.sessionID != 0 {
		t.Error("want a client refused that has seen later changes than the server has")
	}
}

func testExpiry(t *testing.T, addr string, tick time.Duration, c *zk.Conn, root string) {
	silent := dialRaw(t, addr, 2*tick, 0, nil, 0)
	silent.mustCall(opCreate, createBody(root+"/e", "", ephemeral))
	_, _, gone, err := c.ExistsW(root + "/e")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	waitFor(t, gone, zk.EventNodeDeleted)
	if took := time.Since(began); took < tick {
		t.Errorf("want the session of %v kept for most of it, found it gone after %v", 2*tick, took)
	}
	if silent.packet() != nil {
		t.Error("want the connection of an expired session ended")
	}
	if expired := dialRaw(t, addr, 2*tick, silent.sessionID, silent.password, 0); expired.sessionID != 0 || expired.timeout != 0 {
		t.Errorf("want a session of zeros, found %x", expired.sessionID)
	}
}

func testWords(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, _ string) {
	for word, want := range map[string]string{"ruok": "imok", "srvr": "Mode: standalone\nNode count: ", "stat": "Clients:\n /"} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, word) //nolint:errcheck // the read would show it
		answer, err := io.ReadAll(nc)
		if err != nil || !strings.Contains(string(answer), want) {
			t.Errorf("%s: want %q in the answer, found %q %v", word, want, answer, err)
		}
		nc.Close()
	}
}

func testHostile(t *testing.T, addr string, _ time.Duration, c *zk.Conn, root string) {
	for _, tc := range []struct {
		name string
		send []byte
	}{
		{"a length beyond all limits", appendInt32(nil, 1<<30)},
		{"a negative length", appendInt32(nil, -5)},
		{"no operation", append(appendInt32(nil, 2), 0, 0)},
		{"a string beyond its packet", append(appendInt32(nil, 12), appendInt32(appendInt32(appendInt32(nil, 1), opGetData), 1<<20)...)},
	} {
		r := dialRaw(t, addr, long, 0, nil, 0)
		if _, err := r.nc.Write(tc.send); err != nil {
			t.Fatal(err)
		}
		for b := r.packet(); b != nil; b = r.packet() {
			if a := (reader{b: b}); a.int32() >= 0 && a.int64() != 0 && code(a.int32()) == ok {
				t.Errorf("%s: want it refused, found it done", tc.name)
			}
		}
	}
	if _, _, err := c.Get(root); err != nil {
		t.Errorf("want the others served on, found %v", err)
	}
}
