package limitcount

import (
	"time"

	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// pieces is into how many pieces a window is divided. Any time of a window's length touches one more.
const pieces = 32

// sliding counts the calls of the pieces that the last window touched: never more than the count within a window's time,
// wherever that begins.
type sliding struct {
	count int64
	piece int64 // ns
}

// slots is what is kept of a key: the calls in the pieces up to the last.
type slots struct {
	last  int64 // number of the newest piece
	total int64
	calls [pieces + 1]uint32
}

func newSliding(count int64, window time.Duration) *sliding {
	return &sliding{count, (int64(window) + pieces - 1) / pieces}
}

// Take implements limit.Rule.
func (r *sliding) Take(s *slots, now int64) limit.Verdict {
	piece := now / r.piece
	s.advance(piece)
	v := limit.Verdict{Reset: time.Duration((s.newest()+pieces+1)*r.piece - now)}
	if s.total >= r.count {
		v.Wait = time.Duration((s.oldest()+pieces+1)*r.piece - now)
		return v
	}
	s.calls[piece%(pieces+1)]++
	s.total++
	return limit.Verdict{OK: true, Remaining: r.count - s.total, Reset: time.Duration((piece+pieces+1)*r.piece - now)}
}

// Rests implements limit.Rule.
func (r *sliding) Rests(s *slots, now int64) bool { return now/r.piece-s.last > pieces }

// advance forgets the pieces that the last window does not touch any more.
func (s *slots) advance(piece int64) {
	if piece-s.last > pieces {
		*s = slots{last: piece}
		return
	}
	for s.last < piece {
		s.last++
		at := s.last % (pieces + 1)
		s.total -= int64(s.calls[at])
		s.calls[at] = 0
	}
}

// oldest is the number of the oldest piece with calls; there are some.
func (s *slots) oldest() int64 {
	for piece := s.last - pieces; piece < s.last; piece++ {
		if s.calls[piece%(pieces+1)] > 0 {
			return piece
		}
	}
	return s.last
}

// newest is the number of the newest piece with calls; where there is none, of the oldest piece.
func (s *slots) newest() int64 {
	for piece := s.last; piece > s.last-pieces; piece-- {
		if s.calls[piece%(pieces+1)] > 0 {
			return piece
		}
	}
	return s.last - pieces
}

func (r *sliding) shared(batch int64) *inStore {
	return &inStore{slidingScript, []any{r.count, max(r.piece/int64(time.Microsecond), 1), pieces}, batch}
}

// A place is good for the time of a piece, and so is counted for one piece longer than in a gateway's own table.
var slidingScript = &plugin.Script{Source: `
local want, count, piece, pieces = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = math.floor(now / piece)
local used, oldest = 0, at
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local n = tonumber(all[i])
  -- A server whose clock was ahead may have written it.
  if n < at - pieces - 1 or n > at + 1 then
    redis.call('HDEL', KEYS[1], all[i])
  else
    used = used + tonumber(all[i + 1])
    if n < oldest then oldest = n end
  end
end
local reset = (at + pieces + 2) * piece - now
local take = math.min(want, count - used)
if take < 1 then
  return {0, 0, math.ceil((oldest + pieces + 2) * piece - now), math.ceil(reset), 0}
end
redis.call('HINCRBY', KEYS[1], string.format('%.0f', at), take)
redis.call('PEXPIRE', KEYS[1], math.ceil(reset / 1000))
return {take, count - used - take, 0, math.ceil(reset), piece}
`}
