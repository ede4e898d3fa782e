package limit

import (
	"context"
	"fmt"
	"time"

	limitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limit/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// shared is a limit whose counts are in a store. A gateway takes places there in batches, which grow while a key uses them up,
// so that most calls of a busy key ask nobody; that a key is blocked is remembered as well.
type shared struct {
	store   plugin.Store
	script  *plugin.Script
	args    []any
	batch   int64
	prefix  string
	onError limitv1.OnError
}

func newShared(store plugin.Store, rule Shared, prefix string, onError limitv1.OnError) *shared {
	return &shared{store: store, script: rule.Script(), args: rule.Args(), batch: max(rule.Batch(), 1), prefix: prefix, onError: onError}
}

// lease is what a gateway holds of a key's limit. Its times are those of the limiter's clock.
type lease struct {
	left    int64 // places that may be used
	until   int64 // how long they are good
	blocked int64 // until when there is none
	batch   int64 // how many were taken the last time
	more    int64 // calls that waited for the last batch in vain

	remaining int64 // in the store, after the last batch
	reset     int64 // when the store's count is as for a key never seen

	flight *flight // a question that is on its way
}

// rests tells that a lease means nothing.
func (l *lease) rests(now int64) bool {
	return l.flight == nil && now >= l.blocked && (l.left == 0 || now >= l.until)
}

// flight is a question to a store that calls wait for.
type flight struct {
	done    chan struct{}
	waiting int64 // calls; by the lock of the key's part
	err     error // set before done is closed
}

// use takes a place of the lease. known: the lease tells all that there is to tell.
func (l *lease) use(now int64) (v Verdict, known bool) {
	v = Verdict{Remaining: l.remaining, Reset: time.Duration(max(l.reset-now, 0))}
	switch {
	case l.left > 0 && now < l.until:
		l.left--
		v.OK, v.Remaining = true, l.remaining+l.left
		return v, true
	case now < l.blocked:
		v.Remaining, v.Wait = 0, time.Duration(l.blocked-now)
		return v, true
	}
	return v, false
}

// want is how many places to ask for: twice as many as the last time where they were used up in time, half where not half
// of them were.
func (l *lease) want(now, most int64) int64 {
	switch {
	case l.batch == 0:
		l.batch = 1
	case l.left == 0 && now < l.until:
		l.batch *= 2
	case l.left > l.batch/2:
		l.batch /= 2
	}
	l.batch = min(max(l.batch, 1), most)
	return max(l.batch, min(l.more+1, most))
}

// lease counts a call by what is leased, or leases more. The error is the store's.
func (l *Limiter[S, R]) lease(ctx context.Context, hash uint64, key Key) (Verdict, error) {
	for {
		p := l.table.lock(hash)
		now := l.now()
		s := p.find(hash, now)
		if v, known := s.of.lease.use(now); known {
			p.mark(s, !v.OK)
			p.mu.Unlock()
			return v, nil
		}
		f := s.of.lease.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			s.of.lease.flight = f
			want := s.of.lease.want(now, l.shared.batch)
			p.mu.Unlock()
			return l.fetch(ctx, hash, key, want, f)
		}
		f.waiting++
		p.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil {
				return Verdict{}, f.err
			}
		case <-ctx.Done():
			return Verdict{}, ctx.Err()
		}
	}
}

// fetch takes a batch of places from the store, one of them for the call that asks.
func (l *Limiter[S, R]) fetch(ctx context.Context, hash uint64, key Key, want int64, f *flight) (v Verdict, err error) {
	var a answer
	err = errNumbers // also behind a panic: those who wait must not wait for ever
	defer func() {
		p := l.table.lock(hash)
		now := l.now()
		s := p.find(hash, now)
		if err == nil {
			v = s.of.lease.take(now, &a, f.waiting)
			p.mark(s, !v.OK)
		}
		if s.of.lease.flight == f {
			s.of.lease.flight = nil
		}
		f.err = err
		p.mu.Unlock()
		close(f.done)
	}()
	// Others wait for the answer, whatever becomes of this call; the store has its own time.
	a, err = l.shared.ask(context.WithoutCancel(ctx), key, want)
	return v, err
}

// take puts an answer of the store into the lease and takes the place of the call that asked.
func (l *lease) take(now int64, a *answer, waiting int64) Verdict {
	l.remaining, l.reset = a.remaining, now+int64(a.reset)
	v := Verdict{Reset: a.reset}
	if a.taken == 0 {
		l.left, l.more = 0, 0
		l.blocked = now + int64(max(a.wait, time.Millisecond))
		v.Wait = a.wait
		return v
	}
	l.left, l.until = a.taken-1, now+int64(a.good)
	l.more = max(waiting-l.left, 0)
	v.OK, v.Remaining = true, l.remaining+l.left
	return v
}

// answer is what a script returned.
type answer struct {
	taken, remaining  int64
	wait, reset, good time.Duration
}

func (s *shared) ask(ctx context.Context, key Key, want int64) (answer, error) {
	args := make([]any, 0, 1+len(s.args))
	got, err := s.store.Run(ctx, s.script, []string{s.prefix + key.Digest()}, append(append(args, want), s.args...)...)
	if err != nil {
		return answer{}, err
	}
	list, ok := got.([]any)
	if !ok || len(list) != 5 {
		return answer{}, fmt.Errorf("%w: %v", errNumbers, got)
	}
	var n [5]int64
	for i, v := range list {
		if n[i], ok = v.(int64); !ok || n[i] < 0 {
			return answer{}, fmt.Errorf("%w: %v", errNumbers, got)
		}
	}
	return answer{
		taken: min(n[0], want), remaining: n[1],
		wait: time.Duration(n[2]) * time.Microsecond, reset: time.Duration(n[3]) * time.Microsecond, good: time.Duration(n[4]) * time.Microsecond,
	}, nil
}
