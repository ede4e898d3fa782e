package accesslog

import (
	"strconv"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// appendLine appends the line of a call, with its end. Fields that do not apply are left out. w is locked, or nil.
func (l *layout) appendLine(b []byte, c *rpc.Call, sent *rpc.Sent, w *writer) []byte {
	start := len(b)
	if w != nil {
		w.touch(c)
	}
	for i := range l.steps {
		s := &l.steps[i]
		switch {
		case s.run == nil:
			b = l.appendField(b, s, c, sent, w)
		case w == nil:
			b = l.appendRun(b, s.run, c, sent)
		default:
			b = w.appendRun(b, l, s, c, sent)
		}
	}
	if l.logfmt {
		if len(b) > start {
			b = append(b[:start], b[start+1:]...) // the first blank
		}
		return append(b, '\n')
	}
	if len(b) == start {
		b = append(b, '{')
	}
	b[start] = '{' // the first comma
	return append(b, '}', '\n')
}

// appendRun appends fields that repeat.
func (l *layout) appendRun(b []byte, run []step, c *rpc.Call, sent *rpc.Sent) []byte {
	for i := range run {
		b = l.appendField(b, &run[i], c, sent, nil)
	}
	return b
}

// appendField appends one field with its key, or nothing where it does not apply.
func (l *layout) appendField(b []byte, s *step, c *rpc.Call, sent *rpc.Sent, w *writer) []byte {
	switch s.field {
	case fieldTime:
		b = l.open(b, s.key)
		if w != nil {
			b = w.appendTime(b, sent.End)
		} else {
			b = appendTime(b, sent.End)
		}
		return l.close(b)
	case fieldRequestID:
		return l.appendText(b, s.key, c.ID)
	case fieldTraceID:
		if c.Trace.ID == [16]byte{} {
			return b
		}
		return l.close(appendHex(l.open(b, s.key), c.Trace.ID[:]))
	case fieldSpanID:
		if c.Trace.Span == [8]byte{} {
			return b
		}
		return l.close(appendHex(l.open(b, s.key), c.Trace.Span[:]))
	case fieldPeer:
		if addr := c.Peer.Addr().Unmap().WithZone(""); addr.IsValid() {
			b = l.close(addr.AppendTo(l.open(b, s.key)))
		}
		return b
	case fieldClient:
		if addr := c.Address(); addr.IsValid() {
			b = l.close(addr.AppendTo(l.open(b, s.key)))
		}
		return b
	case fieldUserAgent:
		if w != nil {
			return l.appendText(b, s.key, w.agent)
		}
		return l.appendText(b, s.key, userAgent(c))
	case fieldGroups:
		if c.Consumer != nil {
			b = l.appendText(b, s.key, c.Consumer.GroupList)
		}
		return b
	case fieldBytesIn:
		return appendInt(b, s.key, sent.BytesIn)
	case fieldBytesOut:
		return appendInt(b, s.key, sent.BytesOut)
	case fieldDuration:
		return appendMillis(b, s.key, sent.End.Sub(c.Times.Start))
	case fieldUpstream:
		if c.Attempts > 0 {
			b = appendMillis(b, s.key, c.Times.Upstream)
		}
		return b
	case fieldBody:
		if !c.Times.Body.IsZero() {
			b = appendMillis(b, s.key, c.Times.Body.Sub(c.Times.Start))
		}
		return b
	case fieldAttempts:
		return appendInt(b, s.key, int64(c.Attempts))
	case fieldReason:
		return l.appendText(b, s.key, sent.Reason)
	case fieldError:
		if sent.Err != nil {
			b = l.appendText(b, s.key, sent.Err.Error())
		}
		return b
	case fieldProtocol:
		return l.appendText(b, s.key, c.Protocol)
	case fieldStatus:
		if sent.Status != 0 {
			b = appendInt(b, s.key, int64(sent.Status))
		}
		return b
	case fieldCode:
		return l.appendText(b, s.key, rpc.CodeName(sent.Code))
	case fieldRoute:
		return l.appendText(b, s.key, c.Route)
	case fieldService:
		return l.appendText(b, s.key, c.Service)
	case fieldRPCMethod:
		return l.appendText(b, s.key, methodName(c))
	case fieldNode:
		return l.appendText(b, s.key, c.Node)
	case fieldConsumer:
		return l.appendText(b, s.key, c.ConsumerName())
	case fieldRequestHeaders:
		if c.HTTP != nil {
			return l.appendHeaders(b, s.key, &l.request, c.HTTP.Header)
		}
		return l.appendHeaders(b, s.key, &l.request, c.Header)
	case fieldResponseHeaders:
		return l.appendHeaders(b, s.key, &l.response, c.Reply.Header)
	case fieldClaims:
		return l.appendClaims(b, s.key, c.Claims)
	case fieldPath, fieldMethod, fieldScheme, fieldHost:
	}
	if c.HTTP == nil {
		return b
	}
	switch s.field {
	case fieldPath:
		return l.appendText(b, s.key, c.HTTP.Path) // the query may hold secrets
	case fieldMethod:
		return l.appendText(b, s.key, c.HTTP.Method)
	case fieldScheme:
		return l.appendText(b, s.key, c.HTTP.Scheme)
	default:
		return l.appendText(b, s.key, c.HTTP.Host)
	}
}

func methodName(c *rpc.Call) string {
	if c.Method == nil {
		return ""
	}
	name := c.Method.Name
	if name != "" && name[0] == '/' {
		return name[1:]
	}
	return name
}

// userAgent is what the caller says it is: by its request's head, or by its metadata where there is no HTTP.
func userAgent(c *rpc.Call) string {
	if c.HTTP != nil {
		return c.HTTP.Header.Get("user-agent")
	}
	return c.Header.Get("user-agent")
}

// open and close stand around a value that needs no escaping and may stand bare in logfmt.
func (l *layout) open(b []byte, key string) []byte {
	b = append(b, key...)
	if l.logfmt {
		return b
	}
	return append(b, '"')
}

func (l *layout) close(b []byte) []byte {
	if l.logfmt {
		return b
	}
	return append(b, '"')
}

// appendText appends a text field, or nothing when the text is empty.
func (l *layout) appendText(b []byte, key, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, key...)
	return l.appendValue(b, text)
}

// appendValue appends a text.
func (l *layout) appendValue(b []byte, text string) []byte {
	if l.logfmt && bare(text) {
		return append(b, text...)
	}
	b = append(b, '"')
	b = appendEscaped(b, text)
	return append(b, '"')
}

// bare tells a text that needs no quotes in logfmt.
func bare(text string) bool {
	if text == "" || len(text) > maxField {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c == ' ' || c == '=' || !plain[c] {
			return false
		}
	}
	return true
}

// appendTime appends t in RFC 3339 form, UTC, with microseconds.
func appendTime(b []byte, t time.Time) []byte {
	return appendMicros(appendSecond(b, t), t)
}

// appendSecond appends t down to the second, with the point behind it.
func appendSecond(b []byte, t time.Time) []byte {
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
	return append(b, '.')
}

func appendMicros(b []byte, t time.Time) []byte {
	return append(appendPadded(b, t.Nanosecond()/1000, 6), 'Z')
}

// digits are the numbers from 00 to 99.
const digits = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"

// appendPadded appends the last digits of n, which is not negative.
func appendPadded(b []byte, n, width int) []byte {
	at := len(b)
	b = append(b, "000000"[:width]...)
	d := b[at:]
	i := width
	for ; i >= 2; i -= 2 {
		two := uint(n) % 100 * 2
		n = int(uint(n) / 100)
		d[i-1], d[i-2] = digits[two+1], digits[two]
	}
	if i > 0 {
		d[0] = byte('0' + n%10)
	}
	return b
}

func appendInt(b []byte, key string, n int64) []byte {
	return appendNumber(append(b, key...), n)
}

// appendNumber appends n; small ones are the rule.
func appendNumber(b []byte, n int64) []byte {
	switch {
	case 0 <= n && n < 10:
		return append(b, byte('0'+n))
	case 10 <= n && n < 100:
		return append(b, digits[2*n], digits[2*n+1])
	case 100 <= n && n < 1000:
		return append(b, byte('0'+n/100), digits[n%100*2], digits[n%100*2+1])
	}
	return strconv.AppendInt(b, n, 10)
}

// appendMillis appends d in milliseconds with microseconds behind the point; negative is zero.
func appendMillis(b []byte, key string, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = append(b, key...)
	b = appendNumber(b, us/1000)
	us %= 1000
	return append(b, '.', byte('0'+us/100), digits[us%100*2], digits[us%100*2+1])
}

func appendHex(b, raw []byte) []byte {
	for _, c := range raw {
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}
