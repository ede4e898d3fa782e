package http2

import "slices"

// streamTable finds streams by id. Streams are chained in buckets, so that it allocates only when it grows.
type streamTable struct {
	buckets []*stream
	n       int
}

func (t *streamTable) bucket(id uint32) **stream {
	return &t.buckets[(id>>1)&uint32(len(t.buckets)-1)] //nolint:gosec // a small power of two
}

func (t *streamTable) get(id uint32) *stream {
	if t.n == 0 {
		return nil
	}
	s := *t.bucket(id)
	for s != nil && s.id != id {
		s = s.next
	}
	return s
}

func (t *streamTable) put(s *stream) {
	if t.n >= len(t.buckets) {
		old := t.buckets
		t.buckets = make([]*stream, max(64, 2*len(old)))
		for _, s := range old {
			for s != nil {
				next := s.next
				t.link(s)
				s = next
			}
		}
	}
	t.link(s)
	t.n++
}

func (t *streamTable) link(s *stream) {
	b := t.bucket(s.id)
	s.next, *b = *b, s
}

func (t *streamTable) remove(s *stream) {
	for p := t.bucket(s.id); *p != nil; p = &(*p).next {
		if *p == s {
			*p, s.next = s.next, nil
			t.n--
			return
		}
	}
}

// each calls f for every stream; f must not change the table.
func (t *streamTable) each(f func(*stream)) {
	if t.n == 0 {
		return
	}
	for _, s := range t.buckets {
		for ; s != nil; s = s.next {
			f(s)
		}
	}
}

// resetRing remembers the streams that we reset: what the peer sent before it knew is dropped, while a frame on a stream that
// the peer has ended is a fault. What has fallen out of the ring is given the benefit of the doubt.
type resetRing struct {
	ids  [256]uint32
	n    uint32
	lost uint32 // the highest id that fell out
}

func (r *resetRing) add(id uint32) {
	p := &r.ids[r.n%uint32(len(r.ids))]
	r.lost = max(r.lost, *p)
	*p = id
	r.n++
}

func (r *resetRing) has(id uint32) bool {
	if id <= r.lost {
		return true
	}
	return slices.Contains(r.ids[:min(r.n, uint32(len(r.ids)))], id)
}
