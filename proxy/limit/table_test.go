package limit

import (
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// count is a state that rests when it is zero.
type count struct{ n, until int64 }

func rests(c *count, now int64) bool { return now >= c.until }

func (p *part[E]) order(t *testing.T, head int32) (keys []uint64) {
	t.Helper()
	for i := p.slots[head].next; i != head; i = p.slots[i].next {
		if p.slots[p.slots[i].prev].next != i {
			t.Fatal("the ring is broken")
		}
		keys = append(keys, p.slots[i].key)
	}
	return keys
}

func TestTableForgetsWhatWasNotSeenForLongest(t *testing.T) {
	tab := newTable(3*parts, rests)
	p := tab.lock(1)
	defer p.mu.Unlock()
	for _, key := range []uint64{1, 2, 3, 1, 4} {
		p.find(key, 0).of.n++
	}
	if p.seen(2) != nil || p.seen(1) == nil || p.seen(1).of.n != 2 || p.seen(4).of.n != 1 || len(p.index) != 3 {
		t.Errorf("want 1, 3 and 4 known, found %v", p.order(t, passing))
	}
	// What comes back begins anew.
	if n := p.find(2, 0).of.n; n != 0 {
		t.Errorf("found %d", n)
	}
}

func TestTableKeepsBlockedKeys(t *testing.T) {
	tab := newTable(4*parts, rests)
	p := tab.lock(1)
	defer p.mu.Unlock()
	for key := range uint64(2) {
		s := p.find(key, 0)
		s.of.until = 100
		p.mark(s, true)
	}
	for key := range uint64(1000) {
		p.find(1000+key, 50)
	}
	if p.seen(0) == nil || p.seen(1) == nil || len(p.index) != 4 {
		t.Fatal("want blocked keys to outlive a thousand others")
	}
	// Once its block has ended, a key goes first.
	p.find(5000, 100)
	if p.seen(0) != nil || p.seen(1) == nil {
		t.Errorf("want the older of the keys whose block has ended to go, found %v", p.order(t, blocked))
	}
	// One that passes again is like all others.
	p.mark(p.find(1, 100), false)
	if len(p.order(t, blocked)) != 0 {
		t.Error("want no key blocked")
	}
	// Where all are blocked, the one that was not seen for longest goes.
	for key := range uint64(4) {
		s := p.find(100+key, 100)
		s.of.until = 1000
		p.mark(s, true)
	}
	p.find(100, 100)
	s := p.find(200, 200)
	s.of.until = 1000
	p.mark(s, true)
	if p.seen(101) != nil || p.seen(100) == nil || len(p.index) != 4 {
		t.Errorf("found %v", p.order(t, blocked))
	}
}

// Whatever is done to a table, its rings have all its keys once each, and no more than it may have.
func TestTableHoldsTogether(t *testing.T) {
	tab := newTable(16*parts, rests)
	r := rand.New(rand.NewPCG(1, 2))
	p := tab.lock(0)
	defer p.mu.Unlock()
	for now := range int64(20_000) {
		s := p.find(r.Uint64N(40), now)
		s.of.until = now + r.Int64N(30)
		p.mark(s, r.IntN(3) == 0)
		if now%64 > 0 {
			continue
		}
		all := append(p.order(t, passing), p.order(t, blocked)...)
		if len(all) != len(p.index) || len(all) > 16 || len(p.slots) > 16+int(heads) {
			t.Fatalf("found %d keys in rings, %d known, %d slots", len(all), len(p.index), len(p.slots))
		}
		for _, key := range all {
			if s := p.seen(key); s == nil || s.key != key {
				t.Fatalf("key %d is lost", key)
			}
		}
	}
}

// L2: a flood of keys costs a bounded table.
func TestProofKeyFlood(t *testing.T) {
	keys := 300_000
	proof := os.Getenv("CAUSEWAY_PROOF") == "1"
	if proof {
		keys = 10_000_000
	}
	runtime.GC()
	debug.FreeOSMemory()
	before := resident(t)
	tab := newTable(MaxKeys, func(s *[20]int64, _ int64) bool { return s[0] == 0 }) // as much as a sliding window has
	r := rand.New(rand.NewPCG(3, 4))
	most := int64(0)
	for n := range keys {
		key := r.Uint64()
		p := tab.lock(key)
		p.find(key, 0)
		p.mu.Unlock()
		if n%100_000 == 0 {
			most = max(most, resident(t))
		}
	}
	grown := max(most, resident(t)) - before
	if n := tab.len(); n > MaxKeys || n < MaxKeys*9/10 {
		t.Errorf("want about %d keys, found %d", MaxKeys, n)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("PROOF a limiter under %d keys: resident memory +%d MiB, of which %d MiB are in use", keys, grown>>20, m.HeapAlloc>>20)
	if proof && grown > 100<<20 || m.HeapAlloc > 64<<20 { // the race detector needs memory of its own
		t.Errorf("want at most 100 MiB more, of which 64 in use, found %d and %d", grown, m.HeapAlloc)
	}
	runtime.KeepAlive(tab)
}

// resident is the memory of this process that the machine's memory holds, in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skipf("skipped: needs /proc (linux), which is not there: %v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
