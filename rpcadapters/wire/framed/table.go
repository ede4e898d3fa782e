package framed

// entry is a call or a stream in a table, by its number.
type entry struct {
	id     uint32
	next   *entry
	call   *Call // of a client: one of these two
	stream *Stream
	in     *Incoming // of a server
}

// table finds entries by number. They are chained in buckets, so that it allocates only when it grows.
type table struct {
	buckets []*entry
	n       int
	last    uint32 // given out last
	first   uint32 // the lowest that is given out
}

// maxID is the highest number that is given out: it is positive where numbers are signed.
const maxID = 1<<31 - 1

func (t *table) bucket(id uint32) **entry {
	return &t.buckets[id&uint32(len(t.buckets)-1)] //nolint:gosec // a small power of two
}

func (t *table) get(id uint32) *entry {
	if t.n == 0 {
		return nil
	}
	e := *t.bucket(id)
	for e != nil && e.id != id {
		e = e.next
	}
	return e
}

// number gives out a number that is not in use.
func (t *table) number() uint32 {
	for {
		t.last++
		if t.last < t.first || t.last > maxID {
			t.last = t.first
		}
		if t.get(t.last) == nil {
			return t.last
		}
	}
}

// put adds e, whose number is not in the table.
func (t *table) put(e *entry) {
	if t.n >= len(t.buckets) {
		old := t.buckets
		t.buckets = make([]*entry, max(64, 2*len(old)))
		for _, e := range old {
			for e != nil {
				next := e.next
				t.link(e)
				e = next
			}
		}
	}
	t.link(e)
	t.n++
}

func (t *table) link(e *entry) {
	b := t.bucket(e.id)
	e.next, *b = *b, e
}

// remove takes e out; false: it was not there.
func (t *table) remove(e *entry) bool {
	if t.n == 0 {
		return false
	}
	for p := t.bucket(e.id); *p != nil; p = &(*p).next {
		if *p == e {
			*p, e.next = e.next, nil
			t.n--
			return true
		}
	}
	return false
}

// all appends every entry to dst.
func (t *table) all(dst []*entry) []*entry {
	if t.n == 0 {
		return dst
	}
	for _, e := range t.buckets {
		for ; e != nil; e = e.next {
			dst = append(dst, e)
		}
	}
	return dst
}
