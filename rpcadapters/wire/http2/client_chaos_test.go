package http2

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// moody answers requests with their own body: late, in pieces, out of order, or not at all, and says goodbye now and then.
func moody(p *upConn) {
	bodies := map[uint32][]byte{}
	var open []uint32
	say := func(id uint32) {
		body := bodies[id]
		delete(bodies, id)
		switch rand.IntN(20) {
		case 0:
			_ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			return
		case 1:
			p.head(id, false)
			_ = p.fr.WriteData(id, false, body[:len(body)/2])
			_ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal)
			return
		}
		if rand.IntN(2) == 0 {
			p.head(id, false)
		} else {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: AppendField(AppendIndexed(nil, IndexStatus200), "x-body", string(body[:8]))})
		}
		for n := rand.IntN(16_000); len(body) > n; n = rand.IntN(16_000) {
			_ = p.fr.WriteData(id, false, body[:n])
			body = body[n:]
		}
		_ = p.fr.WriteDataPadded(id, true, body, make([]byte, rand.IntN(50)))
	}
	calls := 0
	for f := p.next(); f != nil; f = p.next() {
		switch f := f.(type) {
		case *http2.DataFrame:
			bodies[f.StreamID] = append(bodies[f.StreamID], f.Data()...)
			if f.Length > 0 {
				_ = p.fr.WriteWindowUpdate(0, f.Length)
				if !f.StreamEnded() {
					_ = p.fr.WriteWindowUpdate(f.StreamID, f.Length)
				}
			}
			if !f.StreamEnded() {
				continue
			}
			calls++
			open = append(open, f.StreamID)
			if len(open) < 1+rand.IntN(8) {
				_ = p.fr.WritePing(false, [8]byte{}) // its answer comes when more may have come
				continue
			}
		case *http2.RSTStreamFrame:
			delete(bodies, f.StreamID)
			for i, id := range open {
				if id == f.StreamID {
					open = append(open[:i], open[i+1:]...)
					break
				}
			}
			continue
		case *http2.PingFrame:
		default:
			continue
		}
		rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		for _, id := range open {
			say(id)
		}
		open = open[:0]
		switch {
		case calls > 600 && rand.IntN(200) == 0:
			return // without a word
		case calls > 300 && rand.IntN(200) == 0:
			last := uint32(0)
			for id := range bodies {
				last = max(last, id)
			}
			_ = p.fr.WriteGoAway(last, http2.ErrCodeNo, nil)
		case rand.IntN(100) == 0:
			_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(100 + rand.IntN(70_000))})
		}
	}
}

// Under cancellation, resets, farewells and cuts every call ends, and whatever answer a caller gets is its own.
func TestNoAnswerIsMixedUp(t *testing.T) {
	u := startUpstream(t, nil, moody)
	cl := newTestClient(t, u.address)
	var whole, failed atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	kinds := map[string]int{}
	const enough = 500 // answers; a busy machine takes longer for them
	end := time.Now().Add(2 * time.Second)
	last := end.Add(time.Minute)
	for i := range 48 {
		wg.Go(func() {
			for n := 0; time.Now().Before(end) || whole.Load() < enough && time.Now().Before(last) && !t.Failed(); n++ {
				body := fmt.Sprintf("%02d.%07d.", i, n) + strings.Repeat(string(rune('a'+i%26)), rand.IntN(30_000)*rand.IntN(2))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if rand.IntN(10) == 0 {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(2000))*time.Microsecond)
				}
				c := cl.Get()
				c.Head = append(c.Head, requestHead...)
				c.Prefix, c.Body, c.MaxAnswer = [5]byte{'0', '1', '2', '3', '4'}, []byte(body), 1<<20
				err := cl.Unary(ctx, c)
				got := string(c.Data())
				var f *Fault
				switch {
				case err == nil:
					if whole.Add(1); got != "01234"+body {
						t.Errorf("want %.20q of %d bytes, found %.20q of %d", body, len(body)+5, got, len(got))
					}
					if x := c.Answer().Fields.Get("x-body"); x != "" && x != ("01234" + body)[:8] {
						t.Errorf("want the head of %.20q, found %q", body, x)
					}
				case !errors.As(err, &f):
					t.Errorf("found %v", err)
				default:
					mu.Lock()
					kinds[faultNames[f.Kind]]++
					mu.Unlock()
					if failed.Add(1); f.Kind == Malformed || f.Kind == Ended && ctx.Err() == nil || f.Kind != Ended && errors.Is(ctx.Err(), context.DeadlineExceeded) && time.Now().After(last.Add(5*time.Second)) {
						t.Errorf("found %v", err)
					}
				}
				cl.Put(c)
				cancel()
			}
		})
	}
	wg.Wait()
	t.Logf("%d answers, %d failures %v, %d connections", whole.Load(), failed.Load(), kinds, u.conns.Load())
	if whole.Load() < enough {
		t.Errorf("want answers too, found %d", whole.Load())
	}
	if n := cl.InFlight(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// The cost of decoding the header block of an answer: kept by its bytes, and not.
func BenchmarkAnswerBlock(b *testing.B) {
	cl, err := NewClient(ClientConfig{Address: "127.0.0.1:1"})
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	block := AppendNamed(AppendIndexed(nil, IndexStatus200), IndexContentType, "application/grpc")
	block = AppendField(block, "x-request-id", "0a9e50aeaf79c5d0e9cedb31275d8dd9")
	for _, kept := range []bool{true, false} {
		b.Run(fmt.Sprintf("kept=%v", kept), func(b *testing.B) {
			c := &clientConn{cl: cl, dec: newHeaderDecoder()}
			c.dec.stateless()
			if kept {
				c.memo = newHeadMemo()
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, fault, err := c.decode(block, answerBlock); err != nil || fault != "" {
					b.Fatal(err, fault)
				}
			}
		})
	}
}
