package rpc

// Printable tells whether v is printable ASCII from end to end, as metadata that is no -bin must be. It looks at eight bytes
// at a time: a token has hundreds, and is looked at more than once on its way.
func Printable(v string) bool {
	if len(v) < 8 {
		for i := range len(v) {
			if v[i] < ' ' || v[i] > '~' {
				return false
			}
		}
		return true
	}
	// The last eight bytes, which may overlap with those before them.
	bad := unprintable(word(v[len(v)-8:]))
	for ; len(v) >= 32; v = v[32:] {
		bad |= unprintable(word(v)) | unprintable(word(v[8:])) | unprintable(word(v[16:])) | unprintable(word(v[24:]))
	}
	for ; len(v) >= 8; v = v[8:] {
		bad |= unprintable(word(v))
	}
	return bad&0x8080808080808080 == 0
}

// word is the first eight bytes of v, the first one lowest.
func word(v string) uint64 {
	_ = v[7]
	return uint64(v[0]) | uint64(v[1])<<8 | uint64(v[2])<<16 | uint64(v[3])<<24 |
		uint64(v[4])<<32 | uint64(v[5])<<40 | uint64(v[6])<<48 | uint64(v[7])<<56
}

// unprintable has the highest bit of a byte set where w has one that is not printable: by borrowing when one is below a
// space, by one more when it is DEL, and in all that are no ASCII. What a byte does to the next one does not matter, for it
// is not printable itself.
func unprintable(w uint64) uint64 {
	return w | (w - 0x2020202020202020) | (w + 0x0101010101010101)
}
