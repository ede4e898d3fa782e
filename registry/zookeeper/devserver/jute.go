package devserver

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Jute is ZooKeeper's own encoding: big-endian integers; strings and buffers with a length of four bytes, -1 for none;
// vectors with a count of four bytes. See zookeeper-jute/src/main/resources/zookeeper.jute for the records.

var errTruncated = errors.New("devserver: a record ends before its fields do")

// reader takes fields from a record. After the first error it gives zero values; err is looked at once, at the end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		if r.err == nil {
			r.err = errTruncated
		}
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) bool() bool {
	p := r.take(1)
	return p != nil && p[0] != 0
}

func (r *reader) int32() int32 {
	p := r.take(4)
	if p == nil {
		return 0
	}
	return int32(binary.BigEndian.Uint32(p)) //nolint:gosec // the wire carries the bits of an int32
}

func (r *reader) int64() int64 {
	p := r.take(8)
	if p == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(p)) //nolint:gosec // the wire carries the bits of an int64
}

// buffer returns a copy, nil for a length of -1.
func (r *reader) buffer() []byte {
	n := r.int32()
	if r.err != nil || n == -1 {
		return nil
	}
	if n < 0 {
		r.err = fmt.Errorf("devserver: want a length, found %d", n)
		return nil
	}
	return append([]byte{}, r.take(int(n))...)
}

func (r *reader) string() string { return string(r.buffer()) }

// count returns the length of a vector whose elements take at least size bytes each; a vector of -1 has none.
func (r *reader) count(size int) int {
	n := r.int32()
	if r.err != nil || n == -1 {
		return 0
	}
	if n < 0 || int(n) > len(r.b)/size {
		r.err = fmt.Errorf("devserver: want a vector that fits into %d bytes, found %d elements", len(r.b), n)
		return 0
	}
	return int(n)
}

func (r *reader) strings() []string {
	n := r.count(4)
	all := make([]string, 0, n)
	for range n {
		all = append(all, r.string())
	}
	return all
}

func (r *reader) acls() []acl {
	n := r.count(12)
	all := make([]acl, 0, n)
	for range n {
		all = append(all, acl{perms: r.int32(), id: id{scheme: r.string(), name: r.string()}})
	}
	return all
}

func appendInt32(dst []byte, n int32) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(n)) //nolint:gosec // the wire carries the bits of an int32
}

func appendInt64(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)) //nolint:gosec // the wire carries the bits of an int64
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendString(dst []byte, s string) []byte {
	return append(appendInt32(dst, int32(len(s))), s...) //nolint:gosec // bounded by the packet it came in
}

func appendBuffer(dst, b []byte) []byte {
	if b == nil {
		return appendInt32(dst, -1)
	}
	return append(appendInt32(dst, int32(len(b))), b...) //nolint:gosec // bounded by the packet it came in
}

func appendStrings(dst []byte, all []string) []byte {
	dst = appendInt32(dst, int32(len(all))) //nolint:gosec // bounded by the number of nodes
	for _, s := range all {
		dst = appendString(dst, s)
	}
	return dst
}

func appendACLs(dst []byte, all []acl) []byte {
	dst = appendInt32(dst, int32(len(all))) //nolint:gosec // bounded by the packet it came in
	for _, a := range all {
		dst = appendInt32(dst, a.perms)
		dst = appendString(dst, a.id.scheme)
		dst = appendString(dst, a.id.name)
	}
	return dst
}
