package limitcount

import (
	"time"

	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// fixed counts the calls of windows that begin with a key's first call.
type fixed struct {
	count  int64
	window int64 // ns
}

// span is what is kept of a key: when its window began, and the calls in it.
type span struct{ began, calls int64 }

// Take implements limit.Rule.
func (f *fixed) Take(s *span, now int64) limit.Verdict {
	if f.Rests(s, now) {
		*s = span{began: now}
	}
	left := time.Duration(s.began + f.window - now)
	if s.calls >= f.count {
		return limit.Verdict{Wait: left, Reset: left}
	}
	s.calls++
	return limit.Verdict{OK: true, Remaining: f.count - s.calls, Reset: left}
}

// Rests implements limit.Rule.
func (f *fixed) Rests(s *span, now int64) bool { return now-s.began >= f.window }

// batches is in how many batches a gateway takes its part of a count from a store.
const batches = 50

// inStore is a rule in a store.
type inStore struct {
	script *plugin.Script
	args   []any
	batch  int64
}

// Script implements limit.Shared.
func (s *inStore) Script() *plugin.Script { return s.script }

// Args implements limit.Shared.
func (s *inStore) Args() []any { return s.args }

// Batch implements limit.Shared.
func (s *inStore) Batch() int64 { return s.batch }

func (f *fixed) shared(batch int64) *inStore {
	return &inStore{fixedScript, []any{f.count, max(f.window/int64(time.Millisecond), 1)}, batch}
}

// A place is good until its window ends.
var fixedScript = &plugin.Script{Source: `
local want, count, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used, left = tonumber(redis.call('GET', KEYS[1]) or 0), redis.call('PTTL', KEYS[1])
if left <= 0 or left > window then used, left = 0, window end
local take = math.min(want, count - used)
if take < 1 then
  return {0, 0, left * 1000, left * 1000, 0}
end
redis.call('SET', KEYS[1], used + take, 'PX', left)
return {take, count - used - take, 0, left * 1000, left * 1000}
`}
