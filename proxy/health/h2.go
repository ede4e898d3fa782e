package health

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is an HTTP/2 connection (RFC 9113) that carries one call after the other. Nobody reads it between calls: what the server
// sends meanwhile waits in the kernel, and the next call answers it first. So an idle one takes a socket and a few hundred
// bytes.
type h2 struct {
	conn    net.Conn
	fields  *hpack.Decoder
	stream  uint32 // the next one
	window  int64  // bytes that may be sent
	taken   uint32 // bytes of DATA that were not granted again yet
	leaving bool   // the server said GOAWAY
}

const (
	ownWindow  = 65535 // that of the protocol
	maxReading = 128 << 10
	lastStream = 1 << 30
)

func newH2(conn net.Conn) *h2 {
	return &h2{conn: conn, fields: hpack.NewDecoder(4096, nil), stream: 1, window: ownWindow}
}

// spent tells that the connection takes no further call.
func (c *h2) spent() bool { return c.leaving || c.stream > lastStream || c.window < 2*maxService }

// answer is what became of a call.
type answer struct {
	begun                          bool   // the server answered the call, whatever it said
	http, content, status, message string // :status, content-type, grpc-status, grpc-message
	body                           []byte
}

var (
	errGone    = errors.New("the server closed the connection before it took the call")
	errTooLong = errors.New("the answer is too long")
)

// resetError is a call that the server broke off.
type resetError struct{ code http2.ErrCode }

func (e *resetError) Error() string { return "the server broke the call off with " + e.code.String() }

// kit is what reading and writing need, lent for the length of a call.
type kit struct {
	limited io.LimitedReader
	br      *bufio.Reader
	out     bytes.Buffer
	framer  *http2.Framer
}

var kits = sync.Pool{New: func() any {
	k := &kit{}
	k.br = bufio.NewReaderSize(&k.limited, 1<<10)
	k.framer = http2.NewFramer(&k.out, k.br)
	k.framer.SetMaxReadFrameSize(16 << 10)
	k.framer.MaxHeaderListSize = maxHead
	return k
}}

// call sends a request and reads its answer. The connection may be kept if keep says so.
func (c *h2) call(head, body []byte) (a answer, keep bool, err error) {
	k, _ := kits.Get().(*kit)
	k.limited = io.LimitedReader{R: c.conn, N: maxReading}
	k.br.Reset(&k.limited)
	k.framer.ReadMetaHeaders = c.fields
	k.out.Reset()
	defer func() {
		k.framer.ReadMetaHeaders = nil
		k.limited.R = nil
		if keep { // else its framer may be amid something
			kits.Put(k)
		}
	}()
	id := c.stream
	c.stream += 2
	if err := c.request(k, id, head, body); err != nil {
		return a, false, err
	}
	for ended := false; !ended || k.br.Buffered() > 0; {
		last, err := c.next(k, id, &a, ended)
		switch {
		case err != nil && ended: // the answer stands
			return a, false, nil
		case err != nil && k.limited.N <= 0:
			return a, false, errTooLong
		case err != nil:
			return a, false, err
		}
		ended = last
	}
	return a, !c.leaving, nil
}

// next reads a frame, and sends what there is to say to those read so far.
func (c *h2) next(k *kit, id uint32, a *answer, ended bool) (bool, error) {
	f, err := k.framer.ReadFrame()
	if err != nil {
		return false, err
	}
	if ended, err = c.take(k, f, id, a, ended); err != nil {
		return false, err
	}
	if k.out.Len() > 0 && k.br.Buffered() == 0 {
		return ended, c.flush(k)
	}
	return ended, nil
}

// request sends the head and the one message.
func (c *h2) request(k *kit, id uint32, head, body []byte) error {
	if id == 1 {
		k.out.WriteString(http2.ClientPreface)
		err := k.framer.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}, // so that there is nothing to keep
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHead},
		)
		if err != nil {
			return err
		}
	}
	if c.taken > ownWindow/4 {
		if err := k.framer.WriteWindowUpdate(0, c.taken); err != nil {
			return err
		}
		c.taken = 0
	}
	if err := k.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true}); err != nil {
		return err
	}
	if err := k.framer.WriteData(id, true, body); err != nil {
		return err
	}
	c.window -= int64(len(body))
	return c.flush(k)
}

func (c *h2) flush(k *kit) error {
	_, err := c.conn.Write(k.out.Bytes())
	k.out.Reset()
	return err
}

// take deals with one frame. ended is whether the answer has come to its end.
func (c *h2) take(k *kit, f http2.Frame, id uint32, a *answer, ended bool) (bool, error) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return ended, k.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return ended, k.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		}
	case *http2.GoAwayFrame:
		c.leaving = true
		if f.LastStreamID < id && !ended {
			return false, errGone
		}
	case *http2.RSTStreamFrame:
		if f.StreamID == id && !ended {
			if f.ErrCode == http2.ErrCodeRefusedStream {
				return false, errGone
			}
			a.begun = true
			return false, &resetError{f.ErrCode}
		}
	case *http2.MetaHeadersFrame:
		if f.StreamID != id || ended {
			return ended, nil
		}
		a.begun = true
		if f.Truncated {
			return false, errTooLong
		}
		a.read(f)
		return f.StreamEnded(), nil
	case *http2.DataFrame:
		c.taken += f.Length
		if f.StreamID != id || ended {
			return ended, nil
		}
		a.begun = true
		if len(a.body)+len(f.Data()) > maxMessage {
			return false, errTooLong
		}
		a.body = append(a.body, f.Data()...)
		return f.StreamEnded(), nil
	}
	return ended, nil
}

// read takes what matters from a head or a trailer.
func (a *answer) read(f *http2.MetaHeadersFrame) {
	for _, h := range f.Fields {
		switch h.Name {
		case ":status":
			if !strings.HasPrefix(h.Value, "1") {
				a.http = h.Value
			}
		case "content-type":
			a.content = h.Value
		case "grpc-status":
			a.status = h.Value
		case "grpc-message":
			a.message = decodePercent(h.Value)
		}
	}
}
