package proxy

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// streams are the streaming calls in flight. One goroutine, running while there are any, ends those on which nothing has
// passed for too long.
type streams struct {
	log   *slog.Logger
	limit atomic.Int64 // of streaming calls at one moment
	calls atomic.Int64

	mu       sync.Mutex
	all      map[*stream]struct{}
	looking  bool
	stopping bool          // the gateway is: no stream lasts
	quit     chan struct{} // closed once nobody is to look any more
}

// stream is one streaming call in flight.
type stream struct {
	idle     time.Duration
	last     atomic.Int64 // when something passed, as nanoseconds since born
	born     time.Time
	verdict  atomic.Pointer[rpc.Error] // why it was ended from outside or by its own request half; the first counts
	cut      interface{ Close() }      // ends what waits on the stream
	upstream rpcadapters.ClientStream  // nil while there is none
	begun    bool                      // the upstream's answer has; of the goroutine that receives
}

// passed notes that something went through.
func (s *stream) passed() { s.last.Store(int64(time.Since(s.born))) }

// end ends the stream with an error for the caller, unless it has one already.
func (s *stream) end(err *rpc.Error) {
	if s.verdict.CompareAndSwap(nil, err) {
		s.cut.Close()
	}
}

// outcome is what the call ends with: what ended it from outside counts before what the upstream made of that.
func (s *stream) outcome(err error) error {
	if v := s.verdict.Load(); v != nil {
		return v
	}
	return err
}

// caller is the caller's half as what is cut where there is no upstream.
type caller struct{ rpc.Stream }

// Close ends a Recv that waits.
func (c caller) Close() { c.Stop() }

// begin counts a streaming call in, unless there are too many; end counts it out.
func (ss *streams) begin() error {
	if ss.calls.Add(1) > ss.limit.Load() {
		ss.calls.Add(-1)
		e := rpc.Refuse(codes.Unavailable, "TOO_MANY_STREAMS", "too many streams are open")
		e.Header.Add("retry-after", "1")
		return e
	}
	return nil
}

func (ss *streams) end() { ss.calls.Add(-1) }

// streamTick is how often streams are looked at.
const streamTick = time.Second

func (ss *streams) enter(s *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.stopping {
		defer s.end(stopping())
	}
	if ss.all == nil {
		ss.all = map[*stream]struct{}{}
	}
	ss.all[s] = struct{}{}
	if !ss.looking {
		ss.looking = true
		go ss.look()
	}
}

func (ss *streams) leave(s *stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.all, s)
}

// look ends idle streams until there are none left.
func (ss *streams) look() {
	defer func() {
		if r := recover(); r != nil {
			ss.log.Error("panic while streams were looked at", "panic", r, "stack", string(debug.Stack()))
			ss.mu.Lock()
			ss.looking = false
			ss.mu.Unlock()
		}
	}()
	t := time.NewTicker(streamTick)
	defer t.Stop()
	for {
		var now time.Time
		select {
		case now = <-t.C:
		case <-ss.quit:
			return
		}
		var idle []*stream
		ss.mu.Lock()
		if len(ss.all) == 0 {
			ss.looking = false
			ss.mu.Unlock()
			return
		}
		for s := range ss.all {
			if s.idle > 0 && now.Sub(s.born)-time.Duration(s.last.Load()) > s.idle {
				idle = append(idle, s)
			}
		}
		ss.mu.Unlock()
		for _, s := range idle {
			s.end(rpc.Refuse(codes.DeadlineExceeded, "STREAM_IDLE", "nothing has passed on the stream for %s", s.idle))
		}
	}
}

// endAll ends every stream in flight, and each that begins from now on, because the gateway stops.
func (ss *streams) endAll() {
	ss.mu.Lock()
	ss.stopping = true
	all := make([]*stream, 0, len(ss.all))
	for s := range ss.all {
		all = append(all, s)
	}
	ss.mu.Unlock()
	for _, s := range all {
		s.end(stopping())
	}
}

func stopping() *rpc.Error {
	return rpc.Refuse(codes.Unavailable, "STOPPING", "the gateway is stopping")
}

// open is the number of streams in flight.
func (ss *streams) open() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.all)
}
