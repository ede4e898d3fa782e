package accesslog

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// maxHeaders bounds how many headers one line has of each sort.
const maxHeaders = 128

// appendHeaders appends the wanted headers as an object, or nothing where there are none. Of a header that occurs several
// times the values stand with ", " between, as HTTP joins them.
func (l *layout) appendHeaders(b []byte, key string, wanted *names, header rpc.Metadata) []byte {
	begin, count := len(b), 0
	for i := range header {
		name := header[i].Key
		if !wanted.wants(name) || header[:i].Has(name) {
			continue
		}
		if count++; count > maxHeaders {
			break
		}
		b = l.member(b, key, name, count == 1)
		b = l.appendValue(b, joined(header[i:], name))
	}
	return l.end(b, begin)
}

// joined is the value of the first entry's header, with those that follow.
func joined(header rpc.Metadata, name string) string {
	value := header[0].Value
	if strings.HasSuffix(name, "-bin") {
		return base64.StdEncoding.EncodeToString([]byte(value[:min(len(value), maxField)]))
	}
	for i := 1; i < len(header) && len(value) < maxField; i++ {
		if header[i].Key == name {
			value += ", " + header[i].Value
		}
	}
	return value
}

// member begins a member of an object; key is the object's.
func (l *layout) member(b []byte, key, name string, first bool) []byte {
	if l.logfmt {
		b = append(b, key[:len(key)-1]...)
		b = append(b, '.')
		for i := range len(name) {
			if c := name[i]; plain[c] && c != ' ' && c != '=' {
				b = append(b, c)
			} else {
				b = append(b, '_')
			}
		}
		return append(b, '=')
	}
	if first {
		b = append(b, key...)
		b = append(b, '{', '"')
	} else {
		b = append(b, ',', '"')
	}
	b = appendEscaped(b, name)
	return append(b, '"', ':')
}

// end ends an object, if one was begun.
func (l *layout) end(b []byte, begin int) []byte {
	if len(b) > begin && !l.logfmt {
		b = append(b, '}')
	}
	return b
}

// appendClaims appends the wanted claims as an object: texts, numbers, booleans, and lists of texts with commas between.
func (l *layout) appendClaims(b []byte, key string, claims rpc.Claims) []byte {
	begin := len(b)
	for i := range l.claims {
		value, ok := l.claims[i].of(claims)
		if !ok {
			continue
		}
		switch v := value.(type) {
		case string:
			b = l.appendValue(l.member(b, key, l.claims[i].name, len(b) == begin), v)
		case bool:
			b = strconv.AppendBool(l.member(b, key, l.claims[i].name, len(b) == begin), v)
		case float64:
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			b = l.member(b, key, l.claims[i].name, len(b) == begin)
			if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
				b = strconv.AppendInt(b, int64(v), 10)
			} else {
				b = strconv.AppendFloat(b, v, 'g', -1, 64)
			}
		case []any:
			if text := listed(v); text != "" {
				b = l.appendValue(l.member(b, key, l.claims[i].name, len(b) == begin), text)
			}
		}
	}
	return l.end(b, begin)
}

// of finds the claim: under its whole name, for there are names with points in them, or member by member.
func (c *claim) of(claims rpc.Claims) (any, bool) {
	if v, ok := claims[c.name]; ok || len(c.path) == 1 {
		return v, ok
	}
	var at any = map[string]any(claims)
	for _, name := range c.path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = m[name]; !ok {
			return nil, false
		}
	}
	return at, true
}

func listed(list []any) string {
	var b strings.Builder
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
		if b.Len() > maxField {
			break
		}
	}
	return b.String()
}
