package http2

import (
	"errors"

	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

type blockKind uint8

const (
	requestBlock blockKind = iota
	answerBlock
	trailerBlock
)

// fields is a decoded header block. Its strings alias nothing that is used again.
type fields struct {
	method, scheme, authority, path string // of a request
	status                          int    // of an answer, 100 to 999
	list                            rpc.Metadata
	// fault says why the block breaks RFC 9113 section 8, a PROTOCOL_ERROR of its stream; "" when it does not.
	fault string
	// tooLarge: the list is larger than the limits; fields beyond them are left out.
	tooLarge bool
}

func (f *fields) reset() {
	list := f.list[:0]
	*f = fields{list: list}
}

// headerDecoder decodes the header blocks of one connection, in their order.
type headerDecoder struct {
	dec  *hpack.Decoder
	into *fields
	kind blockKind

	maxList   int // bytes of a list, as RFC 9113 section 6.5.2 counts them
	maxFields int

	size    int
	seen    uint8 // pseudo headers so far
	regular bool  // a header that is no pseudo header has been
}

const (
	seenMethod = 1 << iota
	seenScheme
	seenAuthority
	seenPath
	seenStatus
)

// newHeaderDecoder starts with the protocol's default table, which holds until our SETTINGS are acknowledged.
func newHeaderDecoder() *headerDecoder {
	d := &headerDecoder{maxList: maxHeaderList, maxFields: maxHeaderFields}
	d.dec = hpack.NewDecoder(defaultTableSize, d.field)
	d.dec.SetMaxStringLength(maxHeaderList)
	return d
}

// stateless makes blocks depend on nothing but their bytes: the peer has acknowledged a table of size 0.
func (d *headerDecoder) stateless() {
	d.dec.SetAllowedMaxDynamicTableSize(0)
	d.dec.SetMaxDynamicTableSize(0)
}

// decode fills into, which is reset. The error is a *ConnError: the HPACK state is lost. Faults of the list itself are in
// into.fault and into.tooLarge.
func (d *headerDecoder) decode(block []byte, kind blockKind, into *fields) error {
	into.reset()
	d.into, d.kind = into, kind
	d.size, d.seen, d.regular = 0, 0, false
	d.dec.SetEmitEnabled(true)
	_, err := d.dec.Write(block)
	if cerr := d.dec.Close(); err == nil {
		err = cerr
	}
	d.into = nil
	if err != nil {
		if errors.Is(err, hpack.ErrStringLength) {
			return connFault(EnhanceYourCalm, "a header longer than the limit")
		}
		return connFault(CompressionError, err.Error())
	}
	if into.fault == "" && !into.tooLarge {
		into.fault = d.missing(into)
	}
	return nil
}

// missing names what a whole block lacks.
func (d *headerDecoder) missing(into *fields) string {
	switch d.kind {
	case requestBlock:
		switch {
		case d.seen&seenMethod == 0:
			return "no :method"
		case into.method == "CONNECT":
			return "" // it has no :scheme and no :path (RFC 9113 section 8.5)
		case d.seen&seenScheme == 0:
			return "no :scheme"
		case d.seen&seenPath == 0:
			return "no :path"
		}
	case answerBlock:
		if d.seen&seenStatus == 0 {
			return "no :status"
		}
	case trailerBlock:
	}
	return ""
}

// field takes one field from hpack.
func (d *headerDecoder) field(h hpack.HeaderField) {
	f := d.into
	d.size += len(h.Name) + len(h.Value) + 32
	if d.size > d.maxList || len(f.list) >= d.maxFields {
		f.tooLarge = true
		d.dec.SetEmitEnabled(false)
		return
	}
	if f.fault != "" {
		return
	}
	if !validValue(h.Value) {
		f.fault = "a header value with a byte that is not allowed"
		return
	}
	if h.Name != "" && h.Name[0] == ':' {
		f.fault = d.pseudo(h.Name, h.Value)
		return
	}
	d.regular = true
	if !validName(h.Name) {
		f.fault = "a header name that is no lower-case token"
		return
	}
	if connectionHeader(h.Name, h.Value) {
		f.fault = "a header of the connection, which HTTP/2 does not have: " + h.Name
		return
	}
	f.list = append(f.list, rpc.Pair{Key: h.Name, Value: h.Value})
}

func (d *headerDecoder) pseudo(name, value string) (fault string) {
	if d.regular {
		return "a pseudo header after other headers"
	}
	var bit uint8
	f := d.into
	switch {
	case d.kind == requestBlock && name == ":method":
		bit, f.method = seenMethod, value
		if !validMethod(value) {
			return "a :method that is no token"
		}
	case d.kind == requestBlock && name == ":scheme":
		bit, f.scheme = seenScheme, value
	case d.kind == requestBlock && name == ":authority":
		bit, f.authority = seenAuthority, value
	case d.kind == requestBlock && name == ":path":
		bit, f.path = seenPath, value
		if value == "" {
			return "an empty :path"
		}
	case d.kind == answerBlock && name == ":status":
		bit = seenStatus
		f.status = parseStatus(value)
		if f.status == 0 {
			return "a :status that is no number from 100 to 999"
		}
	default:
		return "pseudo header " + name + ", which does not belong here"
	}
	if d.seen&bit != 0 {
		return "pseudo header " + name + " twice"
	}
	d.seen |= bit
	return ""
}

func parseStatus(v string) int {
	if len(v) != 3 || v[0] < '1' || v[0] > '9' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9' {
		return 0
	}
	return int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
}

// connectionHeader tells headers that HTTP/2 forbids (RFC 9113 section 8.2.2).
func connectionHeader(name, value string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	case "te":
		return value != "trailers"
	}
	return false
}

// tokenTable has true for what a lower-case field name may consist of (RFC 9110 section 5.6.2).
var tokenTable = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func validName(name string) bool {
	for i := range len(name) {
		if !tokenTable[name[i]] {
			return false
		}
	}
	return name != ""
}

func validMethod(m string) bool {
	for i := range len(m) {
		if c := m[i]; !tokenTable[c] && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return m != ""
}

// validValue refuses what would be another line or another header elsewhere: NUL, CR and LF, other control characters, and
// space around the value (RFC 9113 section 8.2.1, RFC 9110 section 5.5).
func validValue(v string) bool {
	if v == "" {
		return true
	}
	if !rpc.Printable(v) { // few are not
		for i := range len(v) {
			if c := v[i]; c < 0x20 && c != '\t' || c == 0x7f {
				return false
			}
		}
	}
	first, last := v[0], v[len(v)-1]
	return first != ' ' && first != '\t' && last != ' ' && last != '\t'
}
