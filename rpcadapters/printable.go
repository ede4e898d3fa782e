package rpcadapters

// Printable tells whether v is printable ASCII from end to end, as metadata that is no -bin must be. It looks at eight bytes
// at a time: a token has hundreds, and is looked at more than once on its way.
func Printable(v string) bool {
	const space, one, high = 0x2020202020202020, 0x0101010101010101, 0x8080808080808080
	for len(v) >= 8 {
		w := uint64(v[0]) | uint64(v[1])<<8 | uint64(v[2])<<16 | uint64(v[3])<<24 |
			uint64(v[4])<<32 | uint64(v[5])<<40 | uint64(v[6])<<48 | uint64(v[7])<<56
		// The highest bit of a byte is set by borrowing when it is below a space, by one more when it is DEL, and is set in
		// all that are no ASCII.
		if (w|(w-space)|(w+one))&high != 0 {
			return false
		}
		v = v[8:]
	}
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}
