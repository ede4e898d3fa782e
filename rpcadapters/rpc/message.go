package rpc

import (
	"sync"
	"sync/atomic"
)

// Encoding is the form of a message's bytes.
type Encoding uint8

// Wire is protobuf wire bytes, the neutral form. Native is the upstream protocol's own form, passed like to like.
const (
	Wire Encoding = iota
	Native
)

// Compression names what a message's bytes are still packed with; only like-to-like hops leave it set.
type Compression uint8

// Identity is no compression; Gzip is RFC 1952.
const (
	Identity Compression = iota
	Gzip
)

// Message is one encoded message. Data is read-only once handed on. A Message whose bytes are pooled is counted: Retain
// adds an owner, the last Free returns the bytes. The zero Message is empty and needs no Free.
type Message struct {
	Data []byte
	Enc  Encoding
	Comp Compression
	// Attached is what goes beside the message where both sides' protocols have such a thing (tRPC). It belongs to the message as
	// Data does.
	Attached []byte

	buf *Buffer
}

// Own makes b's bytes the message's, which is then b's one owner.
func (m *Message) Own(b *Buffer) {
	m.Free()
	m.Data, m.buf = b.B, b
}

// Retain adds an owner and returns a second handle on the same bytes.
func (m *Message) Retain() Message {
	if m.buf != nil {
		m.buf.refs.Add(1)
	}
	return *m
}

// Free gives the bytes back when this was the last owner, and empties the handle. It may be called twice.
func (m *Message) Free() {
	if m.buf != nil {
		m.buf.Free()
	}
	*m = Message{}
}

// Buffer is a pooled byte slice with one owner, who frees it. B may be appended to and replaced by its own growth.
type Buffer struct {
	B    []byte
	refs atomic.Int32
}

// maxPooled is the largest buffer kept: a rare huge message must not stay for ever.
const maxPooled = 1 << 20

var pool = sync.Pool{New: func() any { return &Buffer{B: make([]byte, 0, 1024)} }}

// GetBuffer returns an empty buffer from the pool, with one owner: the caller.
func GetBuffer() *Buffer {
	b := pool.Get().(*Buffer)
	b.B = b.B[:0]
	b.refs.Store(1)
	return b
}

// Free gives up one owner's claim; the last one returns the buffer to the pool. Freeing more often than owned panics.
func (b *Buffer) Free() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("rpc: buffer freed twice") //nolint:forbidigo // a second free would hand one caller's bytes to another
	}
	poison(b.B)
	if cap(b.B) <= maxPooled {
		pool.Put(b)
	}
}

// Grow returns b with more room: for as much again as has come, at least least bytes, and up to total bytes in all where that is
// not negative. A length is not believed, for it costs a caller nothing to state one. It is called when b is full.
func Grow(b []byte, least, total int) []byte {
	room := max(2*len(b), least)
	if total >= 0 {
		room = min(room, total)
	}
	return append(make([]byte, 0, room), b...)
}
