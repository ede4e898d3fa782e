package accesslog

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// appendLine appends the JSON line of a call, with its line's end. Fields that do not apply are left out.
func appendLine(b []byte, c *rpc.Call, sent *rpc.Sent) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, sent.End)
	b = append(b, '"')
	b = appendText(b, "request_id", c.ID)
	b = appendText(b, "protocol", c.Protocol)
	if addr := c.Peer.Addr().Unmap().WithZone(""); addr.IsValid() {
		b = append(b, `,"peer":"`...)
		b = addr.AppendTo(b)
		b = append(b, '"')
	}
	if h := c.HTTP; h != nil {
		b = appendText(b, "method", h.Method)
		b = appendText(b, "host", h.Host)
		b = appendText(b, "path", h.Path) // the query may hold secrets
	}
	if sent.Status != 0 {
		b = appendInt(b, "status", int64(sent.Status))
	}
	b = append(b, `,"code":"`...)
	b = append(b, rpc.CodeName(sent.Code)...)
	b = append(b, '"')
	b = appendText(b, "route", c.Route)
	b = appendText(b, "service", c.Service)
	if c.Method != nil {
		b = appendText(b, "rpc_method", trimSlash(c.Method.Name))
	}
	b = appendText(b, "node", c.Node)
	b = appendText(b, "consumer", c.ConsumerName())
	b = appendText(b, "user_agent", userAgent(c))
	b = appendInt(b, "bytes_in", sent.BytesIn)
	b = appendInt(b, "bytes_out", sent.BytesOut)
	b = appendMillis(b, "duration_ms", sent.End.Sub(c.Times.Start))
	if c.Attempts > 0 {
		b = appendMillis(b, "upstream_ms", c.Times.Upstream)
	}
	if !c.Times.Body.IsZero() {
		b = appendMillis(b, "body_ms", c.Times.Body.Sub(c.Times.Start))
	}
	b = appendInt(b, "attempts", int64(c.Attempts))
	b = appendText(b, "reason", sent.Reason)
	if sent.Err != nil {
		b = appendText(b, "error", sent.Err.Error())
	}
	return append(b, '}', '\n')
}

func trimSlash(method string) string {
	if method != "" && method[0] == '/' {
		return method[1:]
	}
	return method
}

// userAgent is what the caller says it is: by its request's head, or by its metadata where there is no HTTP.
func userAgent(c *rpc.Call) string {
	if c.HTTP != nil {
		return c.HTTP.Header.Get("user-agent")
	}
	return c.Header.Get("user-agent")
}

// appendTime appends t in RFC 3339 form, UTC, with microseconds.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendPadded(b, year, 4)
	b = append(b, '-')
	b = appendPadded(b, int(month), 2)
	b = append(b, '-')
	b = appendPadded(b, day, 2)
	b = append(b, 'T')
	b = appendPadded(b, hour, 2)
	b = append(b, ':')
	b = appendPadded(b, minute, 2)
	b = append(b, ':')
	b = appendPadded(b, second, 2)
	b = append(b, '.')
	b = appendPadded(b, t.Nanosecond()/1000, 6)
	return append(b, 'Z')
}

// appendPadded appends the last digits of n, which is not negative.
func appendPadded(b []byte, n, digits int) []byte {
	at := len(b)
	b = append(b, "000000"[:digits]...)
	for i := digits - 1; i >= 0; i-- {
		b[at+i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

func appendInt(b []byte, key string, n int64) []byte {
	b = appendKey(b, key)
	return strconv.AppendInt(b, n, 10)
}

// appendMillis appends d in milliseconds with microseconds behind the point; negative is zero.
func appendMillis(b []byte, key string, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = appendKey(b, key)
	b = strconv.AppendInt(b, us/1000, 10)
	b = append(b, '.')
	return appendPadded(b, int(us%1000), 3)
}

func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

// appendText appends a text field, or nothing when the text is empty.
func appendText(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	b = appendKey(b, key)
	b = append(b, '"')
	b = appendEscaped(b, text)
	return append(b, '"')
}

const (
	maxField = 2048     // bytes of one escaped field, so that no caller decides how long a line is
	cut      = "\u2026" // what stands at the end of a field that was longer
	hex      = "0123456789abcdef"
)

// appendEscaped appends text as the inside of a JSON string of at most maxField bytes. Everything that could end the line,
// move a terminal's cursor or turn the order of characters is escaped; bytes that are not UTF-8 become U+FFFD.
func appendEscaped(b []byte, text string) []byte {
	limit := len(b) + maxField
	room := limit - len(cut)
	fits := len(b) // the end of what leaves room for cut
	for i := 0; i < len(text); {
		// Fast path: a run of plain ASCII.
		run := i
		for run < len(text) && run-i < maxField && plain[text[run]] {
			run++
		}
		if run > i {
			start := len(b)
			b = append(b, text[i:run]...)
			if fits == start {
				fits = min(len(b), room)
			}
			i = run
		} else {
			r, size := utf8.DecodeRuneInString(text[i:])
			start := len(b)
			b = appendRune(b, r, text[i:i+size])
			if fits == start && len(b) <= room {
				fits = len(b)
			}
			i += size
		}
		if len(b) > limit {
			return append(b[:fits], cut...)
		}
	}
	return b
}

// appendRune appends one character that is not plain ASCII; raw is as it came.
func appendRune(b []byte, r rune, raw string) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r == '\n':
		return append(b, `\n`...)
	case r == '\r':
		return append(b, `\r`...)
	case r == '\t':
		return append(b, `\t`...)
	case r == utf8.RuneError, acts(r):
		return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return append(b, raw...)
}

// acts tells characters that terminals and viewers act on: controls (C0, DEL, C1), line and paragraph separators, and
// the marks that change the direction of text. All are below U+10000.
func acts(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f, r == 0x61c, 0x200e <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202e,
		0x2066 <= r && r <= 0x2069, r == 0xfeff:
		return true
	}
	return false
}

// plain are the bytes that stand in a JSON string as they are: printable ASCII but " and \.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()
