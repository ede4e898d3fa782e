package http2

import "time"

// wasteGuard counts the streams of the last second, and those of them that were wasted: cancelled at once (CVE-2023-44487)
// or made us reset them (CVE-2025-8671).
type wasteGuard struct {
	since          time.Time
	opened, wasted int
}

func (g *wasteGuard) tick(now time.Time) {
	if now.Sub(g.since) > time.Second {
		*g = wasteGuard{since: now}
	}
}

func (g *wasteGuard) open(now time.Time) {
	g.tick(now)
	g.opened++
}

func (g *wasteGuard) reset(now time.Time) {
	g.tick(now)
	g.wasted++
}

func (g *wasteGuard) over(most int) bool { return g.wasted >= most && 2*g.wasted >= g.opened }

// idHistory remembers of the latest streams which ids were used, and which we have reset: frames that were on their way
// then are no fault.
type idHistory struct {
	last      uint32 // the highest id used
	used, cut [idWords]uint64
}

const (
	idWords = 16
	idCount = idWords * 64
)

func (h *idHistory) at(id uint32) (word int, bit uint64, known bool) {
	n := id / 2 % idCount
	return int(n / 64), 1 << (n % 64), id <= h.last && (h.last-id)/2 < idCount
}

// use notes that id, higher than all before it, was used.
func (h *idHistory) use(id uint32) {
	if (id-h.last)/2 >= idCount {
		h.used, h.cut = [idWords]uint64{}, [idWords]uint64{}
	} else {
		for i := h.last + 2; i < id; i += 2 {
			h.clear(i)
		}
		h.clear(id)
	}
	h.last = id
	w, b, _ := h.at(id)
	h.used[w] |= b
}

func (h *idHistory) clear(id uint32) {
	n := id / 2 % idCount
	h.used[n/64] &^= 1 << (n % 64)
	h.cut[n/64] &^= 1 << (n % 64)
}

// reset notes that we have reset id.
func (h *idHistory) reset(id uint32) {
	if w, b, known := h.at(id); known {
		h.cut[w] |= b
	}
}

// wasUsed tells whether id was opened; of ids long ago it is taken for granted.
func (h *idHistory) wasUsed(id uint32) bool {
	w, b, known := h.at(id)
	return !known || h.used[w]&b != 0
}

// wasReset tells whether we have reset id lately.
func (h *idHistory) wasReset(id uint32) bool {
	w, b, known := h.at(id)
	return known && h.cut[w]&b != 0
}
