package rpcadapters

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// AppendSpelled appends a pair of a request in a protocol whose names and values are any text, by the rule of AppendCarried, and keeps
// in sp how the pair stood where metadata cannot. Metadata has names in lower case; of a value that is not printable ASCII it has the
// percent encoding (that of grpc/doc/PROTOCOL-HTTP2.md), and of one that ought to be base64, by a name in -bin, and is not, the text as
// it is. A name that metadata cannot have is in sp alone. All of dst is in sp, or sp is empty.
func AppendSpelled(dst rpc.Metadata, sp rpc.Spelled, name, text string) (rpc.Metadata, rpc.Spelled) {
	key := rpc.Lower(name)
	if c := headerClass(key); c == never || c == onlyListed {
		return dst, sp
	}
	return appendSpelled(dst, sp, key, name, text)
}

// AppendAnswered is AppendSpelled for a pair of an answer, whose names are not looked at: see PassesBack.
func AppendAnswered(dst rpc.Metadata, sp rpc.Spelled, name, text string) (rpc.Metadata, rpc.Spelled) {
	return appendSpelled(dst, sp, rpc.Lower(name), name, text)
}

func appendSpelled(dst rpc.Metadata, sp rpc.Spelled, key, name, text string) (rpc.Metadata, rpc.Spelled) {
	if !metadataKey(key) {
		if plainName(name) {
			sp = append(behind(sp, dst), rpc.Spelling{Name: name, Text: text})
		}
		return dst, sp
	}
	value := text
	bin := strings.HasSuffix(key, "-bin")
	if bin {
		if raw, ok := decodeBin(text); ok {
			value = raw
		}
	} else if !Printable(text) {
		value = percentEncoded(text)
	}
	as := rpc.Pair{Key: key, Value: value}
	if len(sp) > 0 || bin || key != name || value != text {
		sp = append(behind(sp, dst), rpc.Spelling{As: as, Name: name, Text: text})
	}
	return append(dst, as), sp
}

// behind tells of the pairs that came before the first which metadata cannot have as it stood.
func behind(sp rpc.Spelled, dst rpc.Metadata) rpc.Spelled {
	if len(sp) > 0 {
		return sp
	}
	for _, p := range dst {
		text := p.Value
		if strings.HasSuffix(p.Key, "-bin") {
			text = base64.RawStdEncoding.EncodeToString([]byte(text))
		}
		sp = append(sp, rpc.Spelling{As: p, Name: p.Key, Text: text})
	}
	return sp
}

// plainName tells the names that metadata cannot have, and which nobody takes for one that it has: they have no control characters,
// and no blanks at their ends.
func plainName(name string) bool {
	for i := range len(name) {
		if name[i] < ' ' || name[i] == 0x7f {
			return false
		}
	}
	return name != "" && name[0] != ' ' && name[len(name)-1] != ' '
}

// Plain takes of a call's metadata what metadata cannot carry, for an upstream whose protocol cannot either.
func Plain(c *rpc.Call) {
	speller := c.Spelled.Speller()
	c.Header = slices.DeleteFunc(c.Header, func(p rpc.Pair) bool {
		_, text, own := speller.Next(&p)
		return own && (text != "" && strings.HasSuffix(p.Key, "-bin") && text == p.Value || p.Value != text && !Printable(text))
	})
	c.Spelled = c.Spelled[:0]
}

// Spells tells whether a protocol has names and values of any text as metadata: what is said in it as it stood is said so to who has
// rpc.Spelled.
func Spells(protocol string) bool {
	return protocol == "tars" || protocol == "trpc" || protocol == "trpc-http"
}

// Spelling is a list of names of metadata as somebody wants them spelled.
type Spelling struct{ names, keys []string }

// NewSpelling makes the list of what a configuration has. bad is the place of a name that metadata cannot have, or that stands there
// twice, -1 if none is.
func NewSpelling(list []string) (s Spelling, bad int) {
	for i, name := range list {
		key := rpc.Lower(name)
		if !metadataKey(key) || slices.Contains(s.keys, key) {
			return s, i
		}
		s.names, s.keys = append(s.names, name), append(s.keys, key)
	}
	return s, -1
}

// Of is the spelling of a key of metadata; otherwise is what it is where the list does not have it.
func (s *Spelling) Of(key, otherwise string) string {
	for i := range s.keys {
		if s.keys[i] == key {
			return s.names[i]
		}
	}
	return otherwise
}
