package http2

// Header fields are encoded without state (RFC 7541 section 6.2.2, literals without indexing and without Huffman coding),
// so that parts of a block can be made in advance and blocks do not depend on each other.

// Indices of the static table (RFC 7541 appendix A) for AppendIndexed and AppendNamed.
const (
	IndexAuthority     = 1
	IndexMethodGET     = 2
	IndexMethodPOST    = 3
	IndexPath          = 4
	IndexSchemeHTTP    = 6
	IndexSchemeHTTPS   = 7
	IndexStatus200     = 8
	IndexContentLength = 28
	IndexContentType   = 31
	IndexUserAgent     = 58
)

// AppendIndexed appends a field of the static table, name and value.
func AppendIndexed(dst []byte, index byte) []byte { return append(dst, 0x80|index) }

// AppendNamed appends a field whose name is in the static table.
func AppendNamed(dst []byte, index byte, value string) []byte {
	dst = appendInt(dst, 0, 4, uint64(index))
	return appendString(dst, value)
}

// AppendField appends a field. The name is lower case.
func AppendField(dst []byte, name, value string) []byte {
	dst = append(dst, 0)
	dst = appendString(dst, name)
	return appendString(dst, value)
}

// AppendFieldBytes appends a field whose value is bytes.
func AppendFieldBytes(dst []byte, name string, value []byte) []byte {
	dst = append(dst, 0)
	dst = appendString(dst, name)
	dst = appendInt(dst, 0, 7, uint64(len(value)))
	return append(dst, value...)
}

// AppendFieldHead appends a field's name and the length of its value, which the caller appends.
func AppendFieldHead(dst []byte, name string, length int) []byte {
	dst = append(dst, 0)
	dst = appendString(dst, name)
	return appendInt(dst, 0, 7, uint64(length)) //nolint:gosec // a length is not negative
}

// FieldSize is what a field counts in a header list (RFC 9113 section 6.5.2).
func FieldSize(name, value int) int { return name + value + 32 }

func appendString(dst []byte, s string) []byte {
	dst = appendInt(dst, 0, 7, uint64(len(s)))
	return append(dst, s...)
}

// appendInt appends an integer with a prefix of n bits (RFC 7541 section 5.1); high are the bits above the prefix.
func appendInt(dst []byte, high byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return append(dst, high|byte(v)) //nolint:gosec // below the limit of a byte
	}
	dst = append(dst, high|byte(limit)) //nolint:gosec // at most 8 bits
	for v -= limit; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}
