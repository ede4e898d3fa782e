package rest

import (
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// elements cuts a body into JSON texts: the elements of one array, or texts one after the other with white space between
// them (NDJSON, or as grpc-gateway takes them). It looks at brackets and strings only; what stands between them is the
// codec's business. It holds one element and what was read behind it, whatever the body's size.
type elements struct {
	limit int                       // bytes of one element
	read  func([]byte) (int, error) // reads more of the body
	// hold asks for n bytes of the budget, give gives n back; nil: there is no bound.
	hold func(n int) bool
	give func(n int)

	b    []byte // what is read and not given out yet starts at pos
	pos  int
	held int // bytes of the budget
	list listState
	eof  bool
}

const (
	leastRoom = 1 << 10  // to read into
	keptRoom  = 64 << 10 // larger room is let go once it is not needed
)

type listState uint8

const (
	unknownList listState = iota
	plainList             // texts one after the other
	firstInList           // behind the opening bracket
	inList
	listEnded
)

// next finds the next element; io.EOF after the last. The bytes are good until the following call.
func (e *elements) next() ([]byte, error) {
	for {
		c, err := e.peek()
		if errors.Is(err, io.EOF) && (e.list == unknownList || e.list == plainList || e.list == listEnded) {
			return nil, io.EOF
		}
		if errors.Is(err, io.EOF) {
			return nil, notClosed()
		}
		if err != nil {
			return nil, err
		}
		switch {
		case e.list == unknownList && c == '[':
			e.pos++
			e.list = firstInList
		case e.list == unknownList:
			e.list = plainList
		case e.list == listEnded:
			return nil, badList("wanted the end of the body behind the array of requests, found " + quoted(c))
		case e.list == firstInList && c == ']', e.list == inList && c == ']':
			e.pos++
			e.list = listEnded
		case e.list == inList:
			if c != ',' {
				return nil, badList(`wanted "," or "]" between requests, found ` + quoted(c))
			}
			e.pos++
			if c, err = e.peek(); errors.Is(err, io.EOF) {
				return nil, notClosed()
			} else if err != nil {
				return nil, err
			}
			if c == ']' {
				return nil, badList(`wanted a request behind ",", found "]"`)
			}
			return e.text()
		default:
			if e.list == firstInList {
				e.list = inList
			}
			return e.text()
		}
	}
}

func quoted(c byte) string { return `"` + string(rune(c)) + `"` }

func badList(message string) *rpc.Error {
	return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", message)
}

func notClosed() *rpc.Error { return badList("the array of requests is not closed") }

// peek is the next byte that is no white space (RFC 8259 section 2).
func (e *elements) peek() (byte, error) {
	for {
		for e.pos < len(e.b) {
			switch c := e.b[e.pos]; c {
			case ' ', '\t', '\r', '\n':
				e.pos++
			default:
				return c, nil
			}
		}
		if err := e.fill(e.pos); err != nil {
			return 0, err
		}
	}
}

// text cuts one JSON text off; it begins at pos.
func (e *elements) text() ([]byte, error) {
	text, err := e.scan()
	if err == nil && len(text) == 0 {
		return nil, badList("wanted a request, found " + quoted(e.b[e.pos]))
	}
	if len(text) > e.limit {
		return nil, tooLarge(e.limit)
	}
	return text, err
}

// scan finds the end of the text at pos. It is empty where no text can begin so.
func (e *elements) scan() ([]byte, error) {
	depth, quotes, escaped := 0, false, false
	for i := e.pos; ; i++ {
		if i == len(e.b) {
			before := e.pos
			err := e.fill(e.pos)
			i -= before - e.pos // what was used up has been moved away
			if errors.Is(err, io.EOF) {
				return e.cut(i), nil // the codec says what is missing
			}
			if err != nil {
				return nil, err
			}
		}
		c := e.b[i]
		switch {
		case escaped:
			escaped = false
		case quotes && c == '\\':
			escaped = true
		case c == '"':
			if quotes = !quotes; !quotes && depth == 0 {
				return e.cut(i + 1), nil
			}
		case quotes:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return e.cut(i), nil // the list's own bracket
			}
			if depth--; depth == 0 {
				return e.cut(i + 1), nil
			}
		case depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'):
			return e.cut(i), nil
		}
	}
}

func (e *elements) cut(end int) []byte {
	text := e.b[e.pos:end]
	e.pos = end
	return text
}

// fill reads more of the body behind what is there. What lies before keep is used up and makes room.
func (e *elements) fill(keep int) error {
	if e.eof {
		return io.EOF
	}
	if err := e.makeRoom(keep); err != nil {
		return err
	}
	n, err := e.read(e.b[len(e.b):cap(e.b)])
	e.b = e.b[:len(e.b)+n]
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) {
		e.eof = true
	}
	return err
}

// makeRoom makes room behind what lies from keep on, and lets go of room that one large element needed.
func (e *elements) makeRoom(keep int) error {
	left := len(e.b) - keep
	switch {
	case cap(e.b) > keptRoom && left < keptRoom/4:
		b := append(make([]byte, 0, keptRoom/2), e.b[keep:]...)
		if e.give != nil {
			e.give(e.held - cap(b))
			e.held = cap(b)
		}
		e.b = b
	case keep > 0:
		e.b = e.b[:copy(e.b, e.b[keep:])]
	}
	e.pos -= keep
	if len(e.b) > e.limit {
		return tooLarge(e.limit)
	}
	if len(e.b) < cap(e.b) {
		return nil
	}
	room := max(leastRoom, 2*cap(e.b))
	if e.hold != nil {
		if !e.hold(room - e.held) {
			return overloaded()
		}
		e.held = room
	}
	e.b = append(make([]byte, 0, room), e.b...)
	return nil
}
