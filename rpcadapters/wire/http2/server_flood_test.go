package http2

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// canaryPath tells the canary's calls from the others. It begins the next when it has an answer, which may be before the
// handler has returned.
const canaryPath = "/canary"

// canary is a polite client beside a hostile one: its calls never fail.
type canary struct {
	stop  chan struct{}
	done  sync.WaitGroup
	n     int
	waits []time.Duration // for the answers, from when each call was due
}

// sing makes a call each time that pace is over, or one after the other when it is zero.
func sing(t *testing.T, address string, pace time.Duration) *canary {
	t.Helper()
	c := &canary{stop: make(chan struct{})}
	r := dialRaw(t, address)
	c.done.Go(func() {
		due := time.Now()
		for id := uint32(1); ; id += 2 {
			if pace > 0 {
				due = due.Add(pace)
				time.Sleep(time.Until(due))
			}
			r.headers(id, true, ":method", "GET", ":scheme", "http", ":path", canaryPath, ":authority", "x")
			for a := r.answer(id); !a.ended; {
				if _, reset := r.resets[id]; reset || !r.read() {
					t.Errorf("the canary's call %d: want an answer, found %v, %v, %v", id, r.resets, r.goAways, r.ended)
					return
				}
			}
			delete(r.answers, id)
			if c.n++; pace > 0 {
				c.waits = append(c.waits, time.Since(due))
			}
			select {
			case <-c.stop:
				return
			default:
			}
		}
	})
	return c
}

func (c *canary) end(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.done.Wait()
	if c.n == 0 {
		t.Error("the canary did not sing")
	}
}

// p99 is how long 99 of 100 answers took at most; the canary has ended.
func (c *canary) p99() time.Duration {
	if len(c.waits) == 0 {
		return 0
	}
	slices.Sort(c.waits)
	return c.waits[len(c.waits)*99/100]
}

// flood is an attack on one connection: bytes are n of its frames, or pairs of frames, with what has to go before them.
type flood struct {
	name  string
	bytes func(n int) []byte
}

// floods are the frames that cost a server more than they say.
func floods() []flood {
	const end = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	repeat := func(one []byte) func(int) []byte { return func(n int) []byte { return slices.Repeat(one, n) } }
	opened := func(then []byte) func(int) []byte {
		return func(n int) []byte {
			b := frame(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, plain(post()...)...)
			return append(b, slices.Repeat(then, n)...)
		}
	}
	each := func(flags http2.Flags, fields []string, then func(b []byte, id uint32) []byte) func(int) []byte {
		return func(n int) []byte {
			b := frame(nil, http2.FrameHeaders, end, 1, plain(get()...)...)
			block := plain(fields...)
			for i := range n {
				id := uint32(2*i + 3)
				b = then(frame(b, http2.FrameHeaders, flags, id, block...), id)
			}
			return b
		}
	}
	return []flood{
		{"PING", repeat(frame(nil, http2.FramePing, 0, 0, make([]byte, 8)...))},
		{"PING ACK", repeat(frame(nil, http2.FramePing, 1, 0, make([]byte, 8)...))},
		{"SETTINGS", repeat(frame(nil, http2.FrameSettings, 0, 0))},
		{"SETTINGS with values", repeat(frame(nil, http2.FrameSettings, 0, 0, 0, 4, 0, 0, 1, 0))},
		{"SETTINGS ACK", repeat(frame(nil, http2.FrameSettings, 1, 0))},
		{"PRIORITY", repeat(frame(nil, http2.FramePriority, 0, 1, 0, 0, 0, 3, 7))},
		{"unknown frames", repeat(frame(nil, 0x0a, 0xff, 0x7fffffff, 1, 2, 3))},
		{"unknown frames on 0", repeat(frame(nil, 0x0f, 0, 0))},
		{"empty DATA", opened(frame(nil, http2.FrameData, 0, 1))},
		{"padded empty DATA", opened(frame(nil, http2.FrameData, http2.FlagDataPadded, 1, 1, 0))},
		{"WINDOW_UPDATE", opened(frame(nil, http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1))},
		{"WINDOW_UPDATE on 0", repeat(frame(nil, http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 1))},
		{"GOAWAY", repeat(frame(nil, http2.FrameGoAway, 0, 0, make([]byte, 8)...))},
		{"RST_STREAM of one stream", opened(frame(nil, http2.FrameRSTStream, 0, 1, 0, 0, 0, 8))},
		{"DATA on a closed stream", opened(append(frame(nil, http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), frame(nil, http2.FrameData, 0, 1, 1)...))},
		{"rapid reset", each(end, get(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameRSTStream, 0, id, 0, 0, 0, 8) })},
		{"rapid reset of calls that hang", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameRSTStream, 0, id, 0, 0, 0, 8) })},
		{"resets provoked by windows", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameWindowUpdate, 0, id, 0, 0, 0, 0) })},
		{"resets provoked by wide windows", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte {
			return frame(b, http2.FrameWindowUpdate, 0, id, 0x7f, 0xff, 0xff, 0xff)
		})},
		{"resets provoked by DATA after the end", each(end, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameData, 0, id, 1) })},
		{"resets provoked by HEADERS after the end", each(end, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameHeaders, end, id, 0x82) })},
		{"malformed requests", each(end, []string{"a", "b"}, func(b []byte, _ uint32) []byte { return b })},
		{"streams beyond the limit", each(end, post(), func(b []byte, _ uint32) []byte { return b })},
	}
}

// plain encodes fields, given as name and value by turns, each by itself.
func plain(fields ...string) []byte {
	var block []byte
	for i := 0; i < len(fields); i += 2 {
		block = AppendField(block, fields[i], fields[i+1])
	}
	return block
}

// Frames that cost more than they say, 100,000 of each: the connection ends, and nobody else notices.
func TestServerFloods(t *testing.T) {
	var running, most atomic.Int64
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path == canaryPath {
			hello(ctx, x)
			return
		}
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	bird := sing(t, s.address, 0)
	for _, tc := range floods() {
		t.Run(tc.name, func(t *testing.T) {
			r := dialRaw(t, s.address)
			before := heap()
			b := tc.bytes(100_000)
			go r.send(b)
			r.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			_ = r.conn.Close()
			eventually(t, "its calls ended", func() bool { return running.Load() == 0 && len(s.list()) == 1 })
			if grown := heap() - before; grown > 8<<20 {
				t.Errorf("want what it took given back, found %d bytes more", grown)
			}
		})
	}
	bird.end(t)
	if most.Load() > 100 {
		t.Errorf("want at most 100 calls of a connection at once, found %d", most.Load())
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A client that sends questions and reads no answers is left before they are many.
func TestServerAnswersNotRead(t *testing.T) {
	s := serve(t, Limits{}, nil, hello)
	bird := sing(t, s.address, 0)
	r := dialRaw(t, s.address)
	go func() {
		ping := frame(nil, http2.FramePing, 0, 0, make([]byte, 8)...)
		for r.send(slices.Repeat(ping, 900)) {
			time.Sleep(time.Millisecond)
		}
	}()
	eventually(t, "the connection ended", func() bool { return len(s.list()) == 1 })
	bird.end(t)
}

// The handlers of a connection are bounded, however many streams its client opens and cancels.
func TestServerHandlersBounded(t *testing.T) {
	var running, most, begun atomic.Int64
	release := make(chan struct{})
	s := serve(t, Limits{}, nil, func(context.Context, *wire.Exchange) { // deaf to being cancelled
		begun.Add(1)
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		running.Add(-1)
	})
	r := dialRaw(t, s.address)
	for id := uint32(1); id < 200; id += 2 {
		r.headers(id, true, get()...)
	}
	eventually(t, "100 calls", func() bool { return begun.Load() == 100 })
	for id := uint32(1); id < 600; id += 2 {
		if id > 200 {
			r.headers(id, true, get()...)
		}
		r.must(r.fr.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	r.sync()
	// Those that wait and are not cancelled have their turn.
	for id := uint32(601); id < 700; id += 2 {
		r.headers(id, true, get()...)
	}
	r.sync()
	if begun.Load() != 100 {
		t.Errorf("want 100 calls begun, found %d", begun.Load())
	}
	close(release)
	eventually(t, "the calls that waited", func() bool { return begun.Load() == 150 && running.Load() == 0 })
	if most.Load() > 100 {
		t.Errorf("want at most 100 at once, found %d", most.Load())
	}
	eventually(t, "nothing held", func() bool { return s.protocol.memory.Load() == 0 })
}

// A polite client that cancels all its calls, after their answers have begun or after 10 ms, is never punished.
func TestServerPoliteCanceller(t *testing.T) {
	const calls = 10_000
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "GET" {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
		}
		<-ctx.Done()
	})
	r := dialRaw(t, s.address)
	id := uint32(1)
	for done := 0; done < calls; {
		begun := time.Now()
		n := min(100, calls-done)
		first := id
		method := "GET"
		if done/100%10 == 9 {
			method = "POST"
		}
		for range n {
			r.headers(id, true, ":method", method, ":scheme", "http", ":path", "/", ":authority", "x")
			id += 2
		}
		if method == "GET" {
			r.until("the beginnings of all answers", func() bool { return r.answers[id-2] != nil && len(r.answers) == n })
			clear(r.answers)
		} else {
			r.sync()
			time.Sleep(10*time.Millisecond - time.Since(begun))
		}
		for i := first; i < id; i += 2 {
			r.must(r.fr.WriteRSTStream(i, http2.ErrCodeCancel))
		}
		done += n
	}
	r.sync()
	if len(r.goAways) != 0 || len(r.resets) != 0 {
		t.Errorf("want no punishment, found %v and %v", r.goAways, r.resets)
	}
}

// Many connections with the largest heads, whose answers are not taken: what they hold is bounded for all together, and
// comes back with the streams.
func TestServerMemoryBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("holds 100 MiB")
	}
	const streams = 100
	connections, lim := 60, Limits{} // 180 MiB, where 128 are allowed
	if raceEnabled {
		connections, lim.Memory = 8, 16<<20 // it takes its time: 24 MiB
	}
	s := serve(t, lim, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/" && x.HTTP.Header.Has("x-bomb") {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	before := heap()
	var all []*raw
	refused := 0
	var block, attack []byte
	for i, f := 0, get("x-bomb", strings.Repeat("b", 30<<10)); i < len(f); i += 2 {
		block = AppendField(block, f[i], f[i+1])
	}
	for i := range streams {
		attack = appendHeaders(attack, uint32(2*i+1), false, block, 16<<10)
	}
	for range connections {
		r := dialRaw(t, s.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		all = append(all, r)
		r.send(attack)
		r.sync()
		refused += len(r.resets)
	}
	if held := s.protocol.memory.Load(); held > s.protocol.limits.Memory || held < s.protocol.limits.Memory/2 {
		t.Errorf("want most of %d bytes held and no more, found %d", s.protocol.limits.Memory, held)
	}
	if grown := heap() - before; grown > 300<<20 {
		t.Errorf("want less than 300 MiB more, found %d", grown)
	}
	if refused == 0 {
		t.Error("want streams refused")
	}
	for _, r := range all {
		for i := range streams {
			_ = r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}
	}
	eventually(t, "all given back", func() bool { return s.protocol.memory.Load() == 0 })
	r := dialRaw(t, s.address)
	r.headers(1, true, get()...)
	r.wantAnswer(1, "200")
}

// Bodies that nobody reads count as well.
func TestServerMemoryOfBodies(t *testing.T) {
	s := serve(t, Limits{Memory: 1 << 20}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	r := dialRaw(t, s.address)
	for id := uint32(1); id < 60; id += 2 {
		r.headers(id, false, post()...)
		for range 3 {
			r.data(id, false, strings.Repeat("x", 16<<10))
		}
	}
	r.sync()
	if len(r.resets) == 0 {
		t.Fatal("want streams reset")
	}
	for id, code := range r.resets {
		if code != http2.ErrCodeEnhanceYourCalm && code != http2.ErrCodeRefusedStream {
			t.Errorf("stream %d: found %v", id, code)
		}
	}
	for id := uint32(1); id < 60; id += 2 {
		if _, reset := r.resets[id]; !reset {
			r.must(r.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
	}
	eventually(t, "all given back", func() bool { return s.protocol.memory.Load() == 0 })
	r.headers(101, true, get()...)
	r.wantAnswer(101, "200")
}

// What polite clients do a lot of is no attack: bodies on their way when they were refused, credit in small pieces, a PING
// for each piece of an answer.
func TestServerPoliteClients(t *testing.T) {
	t.Run("refused uploads", func(t *testing.T) {
		s := serve(t, Limits{}, nil, hello)
		r := dialRaw(t, s.address)
		var b []byte
		for id := uint32(1); id < 200; id += 2 {
			r.headers(id, false, post()...)
		}
		for id := uint32(1); id < 200; id += 2 {
			r.wantAnswer(id, "200")
			for range 63 {
				b = appendData(b, id, false, make([]byte, 1<<10), nil)
			}
		}
		r.send(b)
		r.sync()
		if len(r.goAways) != 0 {
			t.Errorf("found %v", r.goAways)
		}
	})
	t.Run("refused uploads of small messages", func(t *testing.T) {
		s := serve(t, Limits{}, nil, hello)
		r := dialRaw(t, s.address)
		for id := uint32(1); id < 10; id += 2 {
			r.headers(id, false, post()...)
			r.wantAnswer(id, "200")
			var b []byte
			for range 2 * floodFrames {
				b = appendData(b, id, false, make([]byte, 20), nil)
			}
			r.send(b)
			r.sync()
			if len(r.goAways) != 0 {
				t.Fatalf("found %v %q", r.goAways, r.reason)
			}
		}
	})
	t.Run("credit and PING for every KiB", func(t *testing.T) {
		s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) { _ = x.Respond(200, nil, make([]byte, 4<<20)) })
		r := dialRaw(t, s.address)
		r.stingy = true
		r.headers(1, true, get()...)
		for given := 0; !r.answer(1).ended; {
			if !r.read() {
				t.Fatalf("found %v %q %v", r.goAways, r.reason, r.ended)
			}
			var b []byte
			for ; given+1024 <= len(r.answer(1).body); given += 1024 {
				b = appendWindowUpdate(appendWindowUpdate(b, 0, 1024), 1, 1024)
			}
			if len(b) > 0 {
				r.send(appendPing(b, false, make([]byte, 8)))
			}
		}
	})
}

// Streams that GOAWAY has refused cost the decoding of their heads all the same.
func TestServerFloodOfRefusedStreams(t *testing.T) {
	s := serve(t, Limits{}, nil, func(ctx context.Context, _ *wire.Exchange) { <-ctx.Done() })
	r := dialRaw(t, s.address)
	r.headers(1, true, post()...)
	r.sync()
	s.one(t).Drain()
	r.until("both GOAWAYs", func() bool { return len(r.goAways) == 2 })
	block := r.block(post()...)
	var b []byte
	for i := range 2 * floodFrames {
		b = frame(b, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, uint32(2*i+3), block...)
	}
	r.send(b)
	r.until("the third", func() bool { return len(r.goAways) == 3 })
	if r.goAways[2] != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("found %v", r.goAways)
	}
}
