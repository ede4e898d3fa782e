//go:build causeway_poison

package http2

// poison overwrites bytes that were read in place once the next frame is asked for, so that a test sees who kept them.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
