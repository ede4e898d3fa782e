package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Caller is a connection of HTTP/2 with prior knowledge that carries gRPC calls, as grpc-go's client has it: header
// blocks by the same encoder (all fields in the dynamic table), PING answered, credit given back. It writes all that is
// to be sent at once, and checks status, message and grpc-status of every answer.
type h2Caller struct {
	*load

	fd      int
	first   int // number of its first slot
	slots   []h2Slot
	next    uint32 // stream
	head    *grpcHead
	enc     *hpack.Encoder
	block   bytes.Buffer
	dec     *hpack.Decoder
	status  [2]string // :status and grpc-status of the header block being decoded
	message string    // its grpc-message
	in      []byte
	have    int
	out     []byte
	window  int64  // bytes that may be sent
	used    uint32 // bytes received since credit was last given back
}

// h2Slot is a call under way.
type h2Slot struct {
	stream uint32 // 0: none
	begun  bool   // its head came
	got    int    // bytes of its answer that came
}

// streamWindow is what a stream may send: more than any answer, so that no credit is given per stream.
const streamWindow = 16 << 20

func newH2Caller(l *load, fd, first int) *h2Caller {
	c := &h2Caller{
		load: l, fd: fd, first: first, next: 1, head: newGRPCHead(l.call, l.address), window: defaultWindow,
		slots: make([]h2Slot, l.streams), in: make([]byte, cannedReadSize),
	}
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			c.status[0] = f.Value
		case "grpc-status":
			c.status[1] = f.Value
		case "grpc-message":
			c.message = f.Value
		}
	})
	c.out = append(c.out, http2.ClientPreface...)
	c.out = appendFrame(c.out, http2.FrameSettings, 0, 0,
		0, byte(http2.SettingEnablePush), 0, 0, 0, 0,
		0, byte(http2.SettingInitialWindowSize), streamWindow>>24, streamWindow>>16&0xff, 0, 0)
	c.out = appendWindowUpdate(c.out, 0, 1<<30)
	return c
}

func (c *h2Caller) begin(slot int, rng *rand.Rand) error {
	body := c.call.body
	if c.window < int64(len(body)) {
		return fmt.Errorf("the server leaves a window of %d bytes on the connection, the call has %d", c.window, len(body))
	}
	c.window -= int64(len(body))
	c.head.vary(rng)
	c.block.Reset()
	for _, f := range c.head.fields {
		if err := c.enc.WriteField(f); err != nil {
			return err
		}
	}
	c.slots[slot-c.first] = h2Slot{stream: c.next}
	c.out = appendFrame(c.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, c.next, c.block.Bytes()...)
	c.out = appendFrame(c.out, http2.FrameData, http2.FlagDataEndStream, c.next, body...)
	c.next += 2
	return nil
}

func (c *h2Caller) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := write(c.fd, c.out)
	c.out = c.out[:0]
	return err
}

func (c *h2Caller) receive(done func(int) error) (int, error) {
	n, err := read(c.fd, c.in[c.have:])
	if err != nil {
		return 0, fmt.Errorf("connection closed with %d bytes of a frame read: %w", c.have, err)
	}
	c.have += n
	rest, came := c.in[:c.have], 0
	for len(rest) >= frameHead {
		size := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if size > maxFrame {
			return 0, fmt.Errorf("frame of %d bytes", size)
		}
		if len(rest) < frameHead+size {
			break
		}
		n, err := c.frame(rest[:frameHead], rest[frameHead:frameHead+size], done)
		if err != nil {
			return 0, err
		}
		came += n
		rest = rest[frameHead+size:]
	}
	c.have = copy(c.in, rest)
	return came, nil
}

// frame takes one frame in and returns the bytes of an answer's body in it.
func (c *h2Caller) frame(head, p []byte, done func(int) error) (int, error) {
	kind, flags := http2.FrameType(head[3]), http2.Flags(head[4])
	id := binary.BigEndian.Uint32(head[5:]) & maxWindow
	switch kind {
	case http2.FrameHeaders:
		return 0, c.headers(flags, id, p, done)
	case http2.FrameData:
		return len(p), c.data(flags, id, p)
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			c.settings(p)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			c.out = appendFrame(c.out, http2.FramePing, http2.FlagPingAck, 0, p...)
		}
	case http2.FrameWindowUpdate:
		if id == 0 && len(p) == 4 {
			c.window += int64(binary.BigEndian.Uint32(p) & maxWindow)
		}
	case http2.FrameRSTStream:
		if c.slot(id) != nil { // after an answer it is a server's way to say that it wants no more of the request
			return 0, fmt.Errorf("stream %d was reset: %x", id, p)
		}
	case http2.FrameGoAway:
		return 0, fmt.Errorf("GOAWAY: %q", p)
	case http2.FrameContinuation, http2.FramePushPromise:
		return 0, fmt.Errorf("unexpected %v", kind)
	}
	return 0, nil
}

// settings takes the server's settings in and acknowledges them.
func (c *h2Caller) settings(p []byte) {
	for ; len(p) >= 6; p = p[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(p)) == http2.SettingHeaderTableSize {
			c.enc.SetMaxDynamicTableSizeLimit(binary.BigEndian.Uint32(p[2:]))
		}
	}
	c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

func (c *h2Caller) slot(id uint32) *h2Slot {
	if id != 0 {
		for i := range c.slots {
			if c.slots[i].stream == id {
				return &c.slots[i]
			}
		}
	}
	return nil
}

func (c *h2Caller) headers(flags http2.Flags, id uint32, p []byte, done func(int) error) error {
	if flags&(http2.FlagHeadersPadded|http2.FlagHeadersPriority) != 0 || !flags.Has(http2.FlagHeadersEndHeaders) {
		return fmt.Errorf("HEADERS with unexpected flags %x", flags)
	}
	c.status, c.message = [2]string{}, ""
	if _, err := c.dec.Write(p); err != nil {
		return err
	}
	if err := c.dec.Close(); err != nil {
		return err
	}
	s := c.slot(id)
	if s == nil {
		return fmt.Errorf("HEADERS of stream %d, which is not open", id)
	}
	if !s.begun && c.status[0] != "200" {
		return fmt.Errorf("unexpected answer: status %q, want 200", c.status[0])
	}
	s.begun = true
	if !flags.Has(http2.FlagHeadersEndStream) {
		return nil
	}
	if c.status[1] != "0" {
		return fmt.Errorf("unexpected answer: grpc-status %q %q, want 0", c.status[1], c.message)
	}
	if s.got != len(c.body) {
		return fmt.Errorf("unexpected answer: %d bytes, want %d", s.got, len(c.body))
	}
	for i := range c.slots {
		if &c.slots[i] == s {
			*s = h2Slot{}
			return done(c.first + i)
		}
	}
	return nil
}

func (c *h2Caller) data(flags http2.Flags, id uint32, p []byte) error {
	if c.used += uint32(len(p)); c.used >= returnAfter { //nolint:gosec // at most 16 KB
		c.out = appendWindowUpdate(c.out, 0, c.used)
		c.used = 0
	}
	s := c.slot(id)
	switch {
	case s == nil || !s.begun:
		return fmt.Errorf("DATA of stream %d, which has not begun", id)
	case flags.Has(http2.FlagDataPadded):
		return errors.New("padded DATA")
	case flags.Has(http2.FlagDataEndStream):
		return errors.New("the answer ended without trailers")
	case !bytes.HasPrefix(c.body[s.got:], p):
		return fmt.Errorf("unexpected answer: %.300q at %d", p, s.got)
	}
	s.got += len(p)
	return nil
}
