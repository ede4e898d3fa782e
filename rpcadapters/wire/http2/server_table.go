package http2

// openStreams finds a connection's open streams by id. They are chained in buckets, so that it allocates only when it grows.
type openStreams struct {
	buckets []*serverStream
	n       int
}

func (t *openStreams) bucket(id uint32) **serverStream {
	return &t.buckets[(id>>1)&uint32(len(t.buckets)-1)] //nolint:gosec // a small power of two
}

func (t *openStreams) get(id uint32) *serverStream {
	if t.n == 0 {
		return nil
	}
	s := *t.bucket(id)
	for s != nil && s.id != id {
		s = s.next
	}
	return s
}

func (t *openStreams) put(s *serverStream) {
	if t.n >= len(t.buckets) {
		old := t.buckets
		t.buckets = make([]*serverStream, max(8, 2*len(old)))
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

func (t *openStreams) link(s *serverStream) {
	b := t.bucket(s.id)
	s.next, *b = *b, s
}

// remove takes a stream out; false: it is not in.
func (t *openStreams) remove(s *serverStream) bool {
	if t.n == 0 {
		return false
	}
	for p := t.bucket(s.id); *p != nil; p = &(*p).next {
		if *p == s {
			*p, s.next = s.next, nil
			t.n--
			return true
		}
	}
	return false
}

// each calls f for every stream until it returns false; f may take out the stream that it is called with, and no other.
func (t *openStreams) each(f func(*serverStream) bool) {
	for _, s := range t.buckets {
		for s != nil {
			next := s.next
			if !f(s) {
				return
			}
			s = next
		}
	}
}
