package batch

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is what these tests send: frames are the owners'.
var record = []byte("0123456789abcdef")

func owner() Owner {
	return Owner{OnRoom: func() {}, OnError: func(error) {}, Panics: new(atomic.Int64)}
}

// Records of many goroutines arrive whole, and by far fewer writes.
func TestCombines(t *testing.T) {
	for _, network := range []string{"tcp", "pipe"} {
		t.Run(network, func(t *testing.T) {
			a, b := connect(t, network)
			var w Writer
			o := owner()
			o.OnError = func(err error) { t.Error(err) }
			w.Init(a, o)
			const senders, each = 16, 200
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for range each {
						w.Lock()
						w.Batch = append(w.Batch, record...)
						w.UnlockFlush()
					}
				})
			}
			var got []byte
			reads, buf := 0, make([]byte, High)
			for len(got) < senders*each*len(record) {
				n, err := b.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, buf[:n]...)
				reads++
			}
			if !bytes.Equal(got, bytes.Repeat(record, senders*each)) {
				t.Error("records are mixed up")
			}
			wg.Wait()
			if reads > senders*each/2 {
				t.Errorf("want calls to share writes, found %d reads for %d records", reads, senders*each)
			}
		})
	}
}

// Who writes to a peer that does not read is not held up; the batch says that it has no room, and when it has again.
func TestDoesNotWait(t *testing.T) {
	for _, network := range []string{"tcp", "pipe"} {
		t.Run(network, func(t *testing.T) {
			a, b := connect(t, network)
			var w Writer
			room, failed := make(chan struct{}, 1), make(chan error, 1)
			o := owner()
			o.OnRoom, o.OnError = func() { room <- struct{}{} }, func(err error) { failed <- err }
			w.Init(a, o)
			data := make([]byte, 16000)
			sent := 0
			for {
				w.Lock()
				if !w.Room() {
					w.Unlock()
					break
				}
				w.Batch = append(w.Batch, data...)
				sent += len(data)
				w.UnlockFlush()
			}
			w.Lock()
			if w.Flooded() || w.Position() != int64(sent) || network == "tcp" && !w.Attempted(0) || w.Attempted(int64(sent)-1) {
				t.Errorf("want %d bytes of which the first was tried and the last was not, and no flood, found %d, %v, %v, %v",
					sent, w.Position(), w.Attempted(0), w.Attempted(int64(sent)-1), w.Flooded())
			}
			w.Unlock()
			if _, err := io.CopyN(io.Discard, b, int64(sent)); err != nil {
				t.Fatal(err)
			}
			<-room
			_ = a.Close()
			w.Lock()
			w.Batch = append(w.Batch, record...)
			w.UnlockKick()
			if err := <-failed; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("found %v", err)
			}
			w.Lock()
			defer w.Unlock()
			if w.Err == nil || w.Writing {
				t.Errorf("want nobody to write any more, and why, found %v, %v", w.Writing, w.Err)
			}
		})
	}
}

// What is in the batch goes out before the end. Half leaves the peer's side open.
func TestFinish(t *testing.T) {
	for name, half := range map[string]bool{"both sides": false, "our side": true} {
		t.Run(name, func(t *testing.T) {
			a, b := connect(t, "tcp")
			var w Writer
			shut := make(chan struct{})
			o := owner()
			o.OnShut = func() { close(shut) }
			w.Init(a, o)
			w.Half = half
			w.Lock()
			w.Batch = append(w.Batch, record...)
			w.Finish()
			if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, record) {
				t.Errorf("want %q and the end, found %q, %v", record, got, err)
			}
			<-shut
			w.Lock()
			if !w.Shut || !errors.Is(w.Err, net.ErrClosed) {
				t.Errorf("want an end that is said, found %v, %v", w.Shut, w.Err)
			}
			w.Unlock()
			if _, err := b.Write(record); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(record))
			_ = a.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(a, got); half != (err == nil) {
				t.Errorf("half %v: what the peer says after our end: %v", half, err)
			}
		})
	}
}

// slowClose is a connection whose end takes time, as that of TLS does where the peer does not read.
type slowClose struct {
	net.Conn
	closing, closed chan struct{}
}

func (c *slowClose) Close() error {
	close(c.closing)
	<-c.closed
	return c.Conn.Close()
}

// Nobody waits for a connection's last word with its lock held: the one who keeps time for all others would.
func TestClosesWithoutTheLock(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	nc := &slowClose{Conn: near, closing: make(chan struct{}), closed: make(chan struct{})}
	var w Writer
	w.Init(nc, owner())
	w.Lock()
	w.Finish()
	<-nc.closing
	if !w.TryLock() {
		t.Error("the lock is held while the connection is being closed")
	} else {
		w.Unlock()
	}
	close(nc.closed)
}

// faulty has a fault of the program in it.
type faulty struct{ net.Conn }

func (faulty) Write([]byte) (int, error) { panic("a fault of the program") }

// A panic while writing is a failed write to everybody else, and counted.
func TestPanic(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	var w Writer
	failed := make(chan error, 1)
	o := owner()
	o.OnError = func(err error) { failed <- err }
	w.Init(faulty{near}, o)
	w.Lock()
	w.Batch = append(w.Batch, record...)
	w.UnlockFlush()
	if err := <-failed; err.Error() != "panic while writing: a fault of the program" || o.Panics.Load() != 1 {
		t.Errorf("found %v, %d panics", err, o.Panics.Load())
	}
}

// What an owner's own goroutines write is written by them, and large buffers are not kept.
func TestSpawnAndShrink(t *testing.T) {
	a, b := connect(t, "pipe")
	var w Writer
	spawned := make(chan struct{}, 1)
	o := owner()
	o.Spawn = func() { spawned <- struct{}{} }
	w.Init(a, o)
	read := func(n int) {
		t.Helper()
		if _, err := io.CopyN(io.Discard, b, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{kept, kept + 1} {
		w.Lock()
		w.Batch = append(make([]byte, 0, n), make([]byte, n)...)
		w.UnlockFlush()
		<-spawned
		done := make(chan struct{})
		go func() { w.Drain(); close(done) }()
		read(n)
		<-done
		w.Lock()
		if got := cap(w.spare) + cap(w.Batch); got != kept { // the first is kept, the second is not
			t.Errorf("a batch of %d bytes: want %d kept, found %d", n, kept, got)
		}
		w.Unlock()
	}
	w.Lock()
	defer w.Unlock()
	if w.Shrink(); w.Held() != 0 {
		t.Errorf("want nothing held when nothing is to be written, found %d bytes", w.Held())
	}
}

// connect returns both ends of a connection.
func connect(t *testing.T, network string) (net.Conn, net.Conn) {
	t.Helper()
	var a, b net.Conn
	if network == "pipe" {
		a, b = net.Pipe()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if b, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	_ = b.SetReadDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}
