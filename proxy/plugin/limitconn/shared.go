package limitconn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"sync"
	"time"

	limitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limit/v1"
	limitconnv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limitconn/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// shared bounds the calls of all gateways together. Each says in the store how many places of a key it holds, a few more than
// it has calls where these are many; one goroutine says so again while it has any, and gives back what is not used. What a
// gateway that has died holds is free after holdFor.
type shared struct {
	*limitConn  // counts while the store is gone
	store       plugin.Store
	prefix, id  string
	onError     limitv1.OnError
	share       int64
	failed      *telemetry.Counter
	log         *slog.Logger
	clock       func() time.Time
	places      [parts]places
	stop        context.CancelFunc
	life        context.Context //nolint:containedctx // of the goroutine
	maintaining sync.WaitGroup
}

// places are what the gateway holds of some keys.
type places struct {
	mu   sync.Mutex
	held map[uint64]*holding
}

// holding is what the gateway holds of one key, by the lock of its part.
type holding struct {
	key     string // in the store
	calls   int64  // in flight
	held    int64
	until   time.Time // how long it may be used without saying so again
	renewed time.Time
	blocked time.Time     // until when nobody asks for more
	asking  chan struct{} // closed when the question on its way is answered; nil: there is none
	err     error         // how the last question ended
}

const (
	holdFor    = 5 * time.Second // in the store
	useFor     = 4 * time.Second // here: the store's time may have begun earlier
	renewAfter = time.Second
	renewTick  = 500 * time.Millisecond
	blockFor   = 50 * time.Millisecond
)

func newShared(p *limitConn, conf *limitconnv1.LimitConn, st plugin.Store, prefix string, env plugin.Env) (*shared, error) {
	failed, err := env.Meter.Counter("causeway_limit_conn_store_failures_total", "", "Calls whose limit a store could not tell.", "store")
	if err != nil {
		return nil, err
	}
	s := &shared{
		limitConn: p, store: st, prefix: prefix, id: rand.Text(), onError: conf.GetOnError(),
		share: max(1, p.count/limit.Replicas(conf)), failed: failed.With(conf.GetStore()), log: env.Log, clock: env.Now,
	}
	for i := range s.places {
		s.places[i].held = map[uint64]*holding{}
	}
	s.life, s.stop = context.WithCancel(context.Background())
	s.maintaining.Go(s.maintain)
	return s, nil
}

// Wrap implements plugin.Plugin.
func (s *shared) Wrap(next rpc.Handler) rpc.Handler { return &sharedHandler{s, next} }

type sharedHandler struct {
	*shared
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *sharedHandler) Handle(ctx context.Context, c *rpc.Call) error {
	number, key, err := h.keys.Number(ctx, c)
	if err != nil {
		return err
	}
	ok, err := h.take(ctx, number, key)
	if err == nil {
		if !ok {
			h.refused.With(c.Route).Inc()
			return limit.Refused(0)
		}
		defer h.giveBack(number)
		return h.next.Handle(ctx, c)
	}
	h.failed.Inc()
	most := int64(math.MaxInt64)
	switch h.onError {
	case limitv1.OnError_ON_ERROR_DENY:
		return limit.Unknown(err)
	case limitv1.OnError_ON_ERROR_LOCAL, limitv1.OnError_ON_ERROR_UNSPECIFIED:
		most = h.share
	case limitv1.OnError_ON_ERROR_ALLOW:
	}
	if !h.enter(number, most) {
		h.refused.With(c.Route).Inc()
		return limit.Refused(0)
	}
	defer h.leave(number)
	return h.next.Handle(ctx, c)
}

// take takes a place for a call: one that is held, or one that the store has left. The error is the store's.
func (s *shared) take(ctx context.Context, number uint64, key limit.Key) (bool, error) {
	p := &s.places[number%parts]
	for {
		p.mu.Lock()
		h := p.held[number]
		if h == nil {
			if len(p.held) >= limit.MaxKeys/parts {
				p.mu.Unlock()
				return false, errTooMany
			}
			h = &holding{key: s.prefix + key.Digest()}
			p.held[number] = h
		}
		now := s.clock()
		switch asking := h.asking; {
		case h.calls < h.held && now.Before(h.until):
			h.calls++
			p.mu.Unlock()
			return true, nil
		case now.Before(h.blocked):
			p.mu.Unlock()
			return false, nil
		case asking == nil:
			want := h.calls + 1 + min(h.calls/4, s.count/20)
			h.asking = make(chan struct{})
			p.mu.Unlock()
			return s.more(ctx, p, h, want, true)
		default:
			p.mu.Unlock()
			select {
			case <-asking:
			case <-ctx.Done():
				return false, ctx.Err()
			}
			p.mu.Lock()
			err := h.err
			p.mu.Unlock()
			if err != nil {
				return false, err
			}
		}
	}
}

// more tells the store that so many places are held, or as many of them as there are, and takes one of them for a call if one
// is to be had. h.asking was set by the caller.
func (s *shared) more(ctx context.Context, p *places, h *holding, want int64, one bool) (ok bool, err error) {
	got := int64(0)
	err = errNumber // also behind a panic: those who wait must not wait for ever
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		now := s.clock()
		if err == nil {
			h.held, h.until, h.renewed = got, now.Add(useFor), now
			if one && h.calls < h.held {
				h.calls++
				ok = true
			} else if one {
				h.blocked = now.Add(blockFor)
			}
		}
		h.err = err
		close(h.asking)
		h.asking = nil
	}()
	// Others wait for the answer, whatever becomes of this call; the store has its own time.
	v, err := s.store.Run(context.WithoutCancel(ctx), script, []string{h.key}, s.id, want, s.count, holdFor.Milliseconds())
	if err != nil {
		return false, err
	}
	n, is := v.(int64)
	if !is || n < 0 || n > want {
		return false, fmt.Errorf("%w: %v", errNumber, v)
	}
	got = n
	return false, nil
}

var (
	errNumber  = errors.New("the store answered otherwise than a script does")
	errTooMany = errors.New("places of too many keys are held")
)

// giveBack ends a call's stay. Its place stays held for the next one until the goroutine looks.
func (s *shared) giveBack(number uint64) {
	p := &s.places[number%parts]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[number].calls-- // it is there while it has calls
}

// maintain says what is held again in time, and gives back what is not used.
func (s *shared) maintain() {
	t := time.NewTicker(renewTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.renew(false)
		case <-s.life.Done():
			return
		}
	}
}

// renew looks at all keys once; a panic there ends nothing else. all: also at what needs nothing yet.
func (s *shared) renew(all bool) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("panic while places were renewed", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	for i := range s.places {
		p := &s.places[i]
		for _, h := range p.due(s.clock(), all) {
			want := h.held // nobody else changes it while it is asked about
			if all {
				want = 0
			}
			if _, err := s.more(context.Background(), p, h, want, false); err != nil {
				p.free(h)
				continue
			}
		}
		p.forget()
	}
}

// due are the keys to say something about to the store. They are asked about from now on: places that are not used cannot be
// taken meanwhile.
func (p *places) due(now time.Time, all bool) []*holding {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*holding
	for _, h := range p.held {
		if h.asking != nil || h.held == 0 && h.calls == 0 || !all && h.calls == h.held && now.Sub(h.renewed) < renewAfter {
			continue
		}
		h.asking = make(chan struct{})
		h.held = min(h.held, h.calls)
		out = append(out, h)
	}
	return out
}

// free notes that what is held is not known any more: the store is gone.
func (p *places) free(h *holding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.calls == 0 {
		h.held = 0
	}
}

// forget removes the keys of which nothing is held.
func (p *places) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number, h := range p.held {
		if h.calls == 0 && h.held == 0 && h.asking == nil {
			delete(p.held, number)
		}
	}
}

// Close gives all places back.
func (s *shared) Close() error {
	s.stop()
	s.maintaining.Wait()
	s.renew(true)
	return nil
}

// script says that a gateway holds so many places of a key, or as many of them as the others leave.
var script = &plugin.Script{Source: `
local id, want, count, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local others = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= id then
    local held, till = string.match(all[i + 1], '^(%d+) (%d+)$')
    -- A server whose clock was ahead may have written it.
    if not held or tonumber(till) <= now or tonumber(till) > now + ttl then
      redis.call('HDEL', KEYS[1], all[i])
    else
      others = others + tonumber(held)
    end
  end
end
local take = math.max(math.min(want, count - others), 0)
if take == 0 then
  redis.call('HDEL', KEYS[1], id)
  return 0
end
redis.call('HSET', KEYS[1], id, string.format('%d %.0f', take, now + ttl))
redis.call('PEXPIRE', KEYS[1], ttl)
return take
`}
