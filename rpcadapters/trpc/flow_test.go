package trpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func buffer(b []byte) (*rpc.Buffer, []byte) {
	buf := rpc.GetBuffer()
	buf.B = append(append(buf.B, make([]byte, headLen)...), b...)
	return buf, buf.B[headLen:]
}

// TestInboxOrder: messages of all sizes come out as they went in, while others go in.
func TestInboxOrder(t *testing.T) {
	var q inbox
	q.init(1 << 20)
	sizes := []int{0, 1, smallMessage, smallMessage + 1, 5000, 3, 0, 0, 70_000}
	const n = 2000
	message := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)]) }
	room := make(chan struct{}, 8)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			room <- struct{}{}
			if err := q.put(buffer(message(i))); err != nil {
				t.Error(err)
				return
			}
		}
		q.close(io.EOF, false)
	})
	var given uint32
	total := 0
	for i := range n {
		buf, payload, credit, err := q.take()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(payload, message(i)) {
			t.Fatalf("message %d: %d bytes", i, len(payload))
		}
		total += len(payload)
		given += credit
		buf.Free()
		<-room
	}
	if _, _, _, err := q.take(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if int(given) > total || int(given) < total-2*q.window/4 {
		t.Errorf("%d bytes given back of %d", given, total)
	}
	wg.Wait()
	if q.queued != 0 || q.count != 0 {
		t.Errorf("%d bytes in %d messages left", q.queued, q.count)
	}
}

// TestInboxBounds: a peer that does not wait for its window is found out, with one that knows none it takes longer.
func TestInboxBounds(t *testing.T) {
	for _, c := range []struct{ window, size, want int }{
		{minWindow, 1000, minWindow/1000 + 1},
		{minWindow, 1 << 20, 1},
		{0, 1 << 18, 4},
		{minWindow, 0, maxQueued},
	} {
		t.Run(fmt.Sprint(c.window, c.size), func(t *testing.T) {
			var q inbox
			q.init(c.window)
			payload := make([]byte, c.size)
			n := 0
			for ; n <= c.want; n++ {
				if err := q.put(buffer(payload)); err != nil {
					if !errors.Is(err, errFlood) {
						t.Fatal(err)
					}
					break
				}
			}
			if n != c.want {
				t.Errorf("%d messages, want %d", n, c.want)
			}
			q.close(io.EOF, true)
			if q.small != nil || q.large != nil {
				t.Error("something is kept")
			}
		})
	}
}

// TestOutbox: sending waits for the window, a message larger than it passes, and the end wakes whoever waits.
func TestOutbox(t *testing.T) {
	var o outbox
	o.init()
	sent := make(chan int)
	var wg sync.WaitGroup
	var end error
	wg.Go(func() {
		defer close(sent)
		for i := 0; ; i++ {
			if end = o.await(100); end != nil {
				return
			}
			sent <- i
		}
	})
	blocked := func(what string) {
		t.Helper()
		select {
		case i := <-sent:
			t.Fatalf("%s: message %d was sent", what, i)
		default:
		}
	}
	blocked("before the peer has spoken")
	if !o.open(50) || o.open(70) {
		t.Error("only the first word counts")
	}
	<-sent
	o.grant(49) // -1
	blocked("at a negative window")
	o.grant(1) // 0
	blocked("at a window of nothing")
	o.grant(101)
	<-sent
	<-sent
	o.close(io.EOF)
	o.close(io.ErrUnexpectedEOF)
	wg.Wait()
	if !errors.Is(end, io.EOF) {
		t.Errorf("%v", end)
	}
	o = outbox{}
	o.init()
	o.open(0)
	for range 100 {
		if err := o.await(1 << 20); err != nil {
			t.Fatal(err)
		}
	}
}
