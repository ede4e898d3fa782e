package limitreq

import (
	"math"
	"strconv"
	"time"

	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// gcra is the generic cell rate algorithm (ITU-T I.371 annex A): each call has a time at which it would come at the steady
// rate, and may come so much earlier.
type gcra struct {
	interval  int64 // between calls at the steady rate, ns
	tolerance int64 // how much earlier than that one may come, ns
}

// cell is what is kept of a key: the time at which its next call would come at the steady rate.
type cell struct{ due int64 }

func newGCRA(interval float64, burst int64) *gcra {
	g := &gcra{interval: max(1, int64(interval))}
	g.tolerance = g.interval * burst
	return g
}

// Take implements limit.Rule.
func (g *gcra) Take(s *cell, now int64) limit.Verdict {
	due := max(s.due, now)
	early := due - now
	if early > g.tolerance {
		return limit.Verdict{Wait: time.Duration(early - g.tolerance), Reset: time.Duration(early)}
	}
	s.due = due + g.interval
	return limit.Verdict{OK: true, Early: time.Duration(early), Remaining: (g.tolerance - early) / g.interval, Reset: time.Duration(early + g.interval)}
}

// Rests implements limit.Rule.
func (g *gcra) Rests(s *cell, now int64) bool { return s.due <= now }

// ahead is how much of its rate a gateway may take from a store at once, and for how long it may keep that.
const ahead = 100 * time.Millisecond

// shared is the rule in a store, in microseconds of the server's clock. Its tolerance is at least what batches need.
type shared struct {
	args  []any
	batch int64
}

func newShared(interval float64, burst int64, rate float64) *shared {
	s := &shared{batch: max(1, int64(rate*ahead.Seconds()))}
	tolerance := interval * math.Max(float64(burst), float64(s.batch-1))
	micros := func(ns float64) any { return strconv.FormatFloat(ns/1e3, 'f', 6, 64) }
	s.args = []any{micros(interval), micros(tolerance), ahead.Microseconds()}
	return s
}

// Script implements limit.Shared.
func (s *shared) Script() *plugin.Script { return script }

// Args implements limit.Shared.
func (s *shared) Args() []any { return s.args }

// Batch implements limit.Shared.
func (s *shared) Batch() int64 { return s.batch }

var script = &plugin.Script{Source: `
local want, interval, tolerance, good = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local due = tonumber(redis.call('GET', KEYS[1]) or 0)
if due < now then due = now end
-- A server whose clock was ahead may have written it.
if due > now + tolerance + interval then due = now + tolerance + interval end
local room = math.floor((tolerance - (due - now)) / interval + 0.000001) + 1
local take = math.min(want, room)
if take < 1 then
  -- Not for one place at a time: what is not asked for meanwhile is there later.
  return {0, 0, math.ceil(due - now - tolerance + interval * math.floor(want / 4)), math.ceil(due - now), 0}
end
due = due + take * interval
redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now) / 1000) + 1)
return {take, room - take, 0, math.ceil(due - now), good}
`}
