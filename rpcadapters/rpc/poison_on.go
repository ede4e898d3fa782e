//go:build causeway_poison

package rpc

// poison overwrites a buffer on release, so that a test sees bytes that are used after their owner gave them up.
func poison(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = 0xDB
	}
}
