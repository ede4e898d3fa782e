package jsonwire

import (
	"bytes"
	"strconv"
	"strings"
)

// locate says where offset at lies in the JSON text in: the path of the value or key there, line and column. It reads
// the text once more from its start, so that nothing need be kept while all is well. The text is known to be JSON up to
// at, and no deeper than the codec goes.
func locate(in []byte, at int) (path string, line, column int) {
	at = min(at, len(in))
	line = 1 + bytes.Count(in[:at], []byte{'\n'})
	column = at - bytes.LastIndexByte(in[:at], '\n')
	type frame struct {
		array   bool
		index   int
		key     []byte
		wantKey bool
	}
	var stack []frame
	for i := 0; i < at; i++ {
		var top *frame
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		switch in[i] {
		case '{':
			stack = append(stack, frame{wantKey: true})
		case '[':
			stack = append(stack, frame{array: true})
		case '}', ']':
			if top != nil {
				stack = stack[:len(stack)-1]
			}
		case ',':
			if top != nil {
				top.index++
				top.wantKey = !top.array
				top.key = nil
			}
		case '"':
			end := stringEnd(in, i)
			if top != nil && top.wantKey {
				top.wantKey = false
				top.key = in[i:end]
			}
			i = end - 1
		}
	}
	// A fault at a key is the fault of the field it names.
	if n := len(stack); n > 0 && stack[n-1].wantKey && at < len(in) && in[at] == '"' {
		stack[n-1].key = in[at:stringEnd(in, at)]
	}
	var b strings.Builder
	for _, f := range stack {
		switch {
		case f.array:
			b.WriteString("[" + strconv.Itoa(f.index) + "]")
		case f.key != nil:
			writeKey(&b, f.key)
		}
	}
	return b.String(), line, column
}

// stringEnd is the offset behind the string that begins at i, or the end of the text.
func stringEnd(in []byte, i int) int {
	for i++; i < len(in); i++ {
		switch in[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(in)
}

// writeKey adds a raw key, quotes included, to a path: .name, or ["any text"].
func writeKey(b *strings.Builder, raw []byte) {
	const longest = 64
	name := bytes.Trim(raw, `"`)
	plain := len(name) > 0 && len(name) <= longest
	for _, c := range name {
		plain = plain && (c == '_' || c == '@' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	switch {
	case !plain:
		if len(raw) > longest {
			raw = append(bytes.ToValidUTF8(raw[:longest], nil), `..."`...)
		}
		b.WriteByte('[')
		b.Write(bytes.ToValidUTF8(raw, []byte("\uFFFD")))
		b.WriteByte(']')
	case b.Len() > 0:
		b.WriteByte('.')
		fallthrough
	default:
		b.Write(name)
	}
}

// joinPath puts a path below another.
func joinPath(above, below string) string {
	if above == "" || below == "" || below[0] == '[' {
		return above + below
	}
	return above + "." + below
}
