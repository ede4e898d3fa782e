package trpckit

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Server serves the services of kit.proto as trpc-go does. Its fields are set before Serve.
type Server struct {
	// Window is what it announces on streams, and Unwindowed that it knows none. 0: 65535.
	Window     uint32
	Unwindowed bool
	// Unary, when set, answers before the services do; nil: no answer; not taken: they are asked.
	Unary func(req *Frame) (answer *Frame, taken bool)

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	seen   []*Frame // unary requests
	opened []*Frame // INIT
	resets []*Frame // CLOSE with RESET of clients
	wg     sync.WaitGroup
}

// Serve serves l until it is closed.
func (s *Server) Serve(l net.Listener) {
	s.conns = map[net.Conn]struct{}{}
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() { s.serve(c) })
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close() // the test is over
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Cut closes all connections.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close() // that is what is asked for
	}
}

// Requests are the unary requests so far.
func (s *Server) Requests() []*Frame { return s.list(&s.seen) }

// Opened are the INITs of clients so far.
func (s *Server) Opened() []*Frame { return s.list(&s.opened) }

// Resets are the CLOSEs with RESET of clients so far.
func (s *Server) Resets() []*Frame { return s.list(&s.resets) }

func (s *Server) list(of *[]*Frame) []*Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Frame(nil), *of...)
}

func (s *Server) note(in *[]*Frame, f *Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*in = append(*in, f)
}

// conn is one connection.
type conn struct {
	s  *Server
	nc net.Conn

	write sync.Mutex

	mu      sync.Mutex
	streams map[uint32]*stream
}

func (s *Server) serve(nc net.Conn) {
	c := &conn{s: s, nc: nc, streams: map[uint32]*stream{}}
	defer func() {
		_ = nc.Close() // it is over
		s.mu.Lock()
		delete(s.conns, nc)
		s.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, st := range c.streams {
			st.end(true)
		}
	}()
	for {
		f, err := Read(nc, true)
		if err != nil {
			return
		}
		if f.Kind == Unary {
			s.note(&s.seen, f)
			s.wg.Go(func() { c.unary(f) })
			continue
		}
		c.stream(f)
	}
}

func (c *conn) send(f *Frame) {
	b := f.Bytes()
	c.write.Lock()
	defer c.write.Unlock()
	_, _ = c.nc.Write(b) // a client that has gone reads nothing
}

const (
	echo    = "/trpc.kit.echo.Echo/"
	streams = "/trpc.kit.echo.Stream/"
)

func (c *conn) unary(req *Frame) {
	if c.s.Unary != nil {
		if answer, taken := c.s.Unary(req); taken {
			if answer != nil {
				c.send(answer)
			}
			return
		}
	}
	answer := Response(req, nil)
	info := req.Info("trans_info")
	answer.Set("trans_info", info).Set("content_type", req.Uint("content_type"))
	fields := numbers(req.Body)
	switch req.Text("func") {
	case echo + "Echo":
		answer.Body = req.Body
		answer.Set("content_encoding", req.Uint("content_encoding"))
	case echo + "Attach":
		answer.Body, answer.Attached = req.Body, bytes.ToUpper(req.Attached)
	case echo + "Fail":
		fail(answer, req.Body)
	case echo + "Slow":
		ms := time.Duration(fields[1]) * time.Millisecond //nolint:gosec // a test's
		time.Sleep(ms)
		if limit := time.Duration(req.Uint("timeout")) * time.Millisecond; limit > 0 && ms > limit {
			return // a call whose time is over is not answered
		}
	case echo + "Meta":
		for key, value := range info {
			entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
			entry = protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), value)
			answer.Body = protowire.AppendBytes(protowire.AppendTag(answer.Body, 1, protowire.BytesType), entry)
		}
		for n, name := range map[protowire.Number]string{2: "caller", 3: "callee", 4: "func"} {
			answer.Body = protowire.AppendString(protowire.AppendTag(answer.Body, n, protowire.BytesType), req.Text(name))
		}
		answer.Body = protowire.AppendVarint(protowire.AppendTag(answer.Body, 5, protowire.VarintType), uint64(req.Uint("timeout")))
		answer.Set("trans_info", map[string]string{"app-resp": "pong"})
	case echo + "Note":
	default:
		answer.Set("ret", int32(12)).Set("error_msg", "service handle: rpc name "+req.Text("func")+" invalid, current service:trpc.kit.echo.Echo")
	}
	if req.Uint("call_type") == 1 && answer.Int("ret") == 0 {
		return
	}
	c.send(answer)
}

// fail makes of a FailRequest the error that it asks for.
func fail(answer *Frame, body []byte) {
	n := numbers(body)
	code, msg := int32(n[1]), text(body, 2) //nolint:gosec // an int32
	switch {
	case n[4] != 0:
		answer.Set("func_ret", int32(999)).Set("error_msg", msg)
	case n[3] != 0:
		answer.Set("ret", code).Set("error_msg", msg)
	default:
		answer.Set("func_ret", code).Set("error_msg", msg)
	}
}

// numbers are the varints of a message by field number.
func numbers(b []byte) map[protowire.Number]uint64 {
	out := map[protowire.Number]uint64{}
	walk(b, func(n protowire.Number, v uint64, _ []byte) { out[n] = v })
	return out
}

// text is a string field of a message.
func text(b []byte, want protowire.Number) (s string) {
	walk(b, func(n protowire.Number, _ uint64, v []byte) {
		if n == want {
			s = string(v)
		}
	})
	return s
}

func walk(b []byte, f func(n protowire.Number, v uint64, bytes []byte)) {
	for len(b) > 0 {
		n, t, m := protowire.ConsumeTag(b)
		if m < 0 {
			return
		}
		b = b[m:]
		var v uint64
		var bs []byte
		switch t {
		case protowire.VarintType:
			v, m = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bs, m = protowire.ConsumeBytes(b)
		default:
			m = protowire.ConsumeFieldValue(n, t, b)
		}
		if m < 0 {
			return
		}
		b = b[m:]
		f(n, v, bs)
	}
}

// stream is one stream of a client.
type stream struct {
	c      *conn
	id     uint32
	window uint32 // announced
	packed bool   // by gzip
	in     chan []byte

	mu     sync.Mutex
	cond   *sync.Cond
	credit int64 // what the client takes
	free   bool  // it knows no windows
	gone   bool  // reset, or the connection is over
	closed bool  // in
}

func (s *stream) end(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = s.gone || gone
	if !s.closed {
		s.closed = true
		close(s.in)
	}
	s.cond.Broadcast()
}

func (c *conn) stream(f *Frame) {
	c.mu.Lock()
	st := c.streams[f.ID]
	c.mu.Unlock()
	if f.Kind == Init {
		c.s.note(&c.s.opened, f)
		c.open(f)
		return
	}
	if f.Kind == Close && f.Int("close_type") == 1 {
		c.s.note(&c.s.resets, f)
	}
	if st == nil {
		c.send(End(f.ID, 1, 1, "uninitialized meta"))
		return
	}
	switch f.Kind {
	case Data:
		st.mu.Lock()
		closed := st.closed
		st.mu.Unlock()
		if !closed {
			st.in <- f.Body
		}
	case Feedback:
		st.mu.Lock()
		st.credit += int64(f.Uint("window_size_increment"))
		st.cond.Broadcast()
		st.mu.Unlock()
	case Close:
		reset := f.Int("close_type") == 1
		st.end(reset)
		if reset {
			c.drop(f.ID)
			c.send(End(f.ID, 1, f.Int("ret"), f.Text("msg")))
		}
	}
}

func (c *conn) drop(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, id)
}

func (c *conn) open(f *Frame) {
	fn := f.Text("request_meta.func")
	run, ok := map[string]func(*stream){streams + "Count": (*stream).count, streams + "Sum": (*stream).sum, streams + "Chat": (*stream).chat}[fn]
	if !ok {
		answer := Opened(f.ID, 0, 12, "rpc name "+fn+" invalid")
		answer.Set("request_meta.func", fn)
		c.send(answer)
		return
	}
	s := &stream{c: c, id: f.ID, window: c.s.Window, in: make(chan []byte, 1<<16), credit: int64(f.Uint("init_window_size"))}
	s.cond = sync.NewCond(&s.mu)
	s.free = s.credit == 0
	s.packed = f.Uint("content_encoding") == 1
	if s.window == 0 {
		s.window = 65535
	}
	if c.s.Unwindowed || s.free {
		s.window = 0
	}
	c.mu.Lock()
	c.streams[f.ID] = s
	c.mu.Unlock()
	c.send(Opened(f.ID, s.window, 0, "").Set("content_encoding", f.Uint("content_encoding")))
	c.s.wg.Go(func() { run(s) })
}

// recv gives the next message, and the window back for it.
func (s *stream) recv() ([]byte, bool) {
	b, ok := <-s.in
	if ok && s.window > 0 && len(b) > 0 {
		s.c.send(Credit(s.id, uint32(len(b)))) //nolint:gosec // a test's
	}
	if s.packed && len(b) > 0 {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, false
		}
		if b, err = io.ReadAll(z); err != nil {
			return nil, false
		}
	}
	return b, ok
}

// send sends a message when the window is open; false: nobody is there.
func (s *stream) send(b []byte) bool {
	if s.packed && len(b) > 0 {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, _ = z.Write(b) // to memory
		_ = z.Close()     // as above
		b = buf.Bytes()
	}
	s.mu.Lock()
	for !s.gone && !s.free && s.credit <= 0 {
		s.cond.Wait()
	}
	gone := s.gone
	s.credit -= int64(len(b))
	s.mu.Unlock()
	if !gone {
		s.c.send(Message(s.id, b))
	}
	return !gone
}

func (s *stream) finish(f *Frame) {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if !gone {
		s.c.send(f) // before the number is nobody's: what comes for it then is answered
	}
	s.c.drop(s.id)
}

// item is an Item.
func item(index int, text string, pad int) []byte {
	var b []byte
	if index != 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(index)) //nolint:gosec // a test's
	}
	if text != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), text)
	}
	if pad > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), make([]byte, pad))
	}
	return b
}

func (s *stream) count() {
	req, _ := s.recv()
	n := numbers(req)
	for i := range int(n[1]) { //nolint:gosec // a test's
		if n[3] != 0 && i == int(n[4]) { //nolint:gosec // a test's
			break
		}
		if n[6] > 0 {
			time.Sleep(time.Duration(n[6]) * time.Millisecond) //nolint:gosec // a test's
		}
		if !s.send(item(i, "item-"+strconv.Itoa(i), int(n[2]))) { //nolint:gosec // a test's
			return
		}
	}
	if n[3] != 0 {
		s.finish(End(s.id, 1, int32(n[3]), "stream business failure")) //nolint:gosec // a test's
		return
	}
	s.finish(End(s.id, 0, 0, "").Set("trans_info", map[string]string{"app-end": "counted"}))
}

func (s *stream) sum() {
	var items, size uint64
	for {
		b, ok := s.recv()
		if !ok {
			break
		}
		items++
		size += uint64(len(text(b, 2)) + len(text(b, 3)))
	}
	out := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), items)
	out = protowire.AppendVarint(protowire.AppendTag(out, 2, protowire.VarintType), size)
	if s.send(out) {
		s.finish(End(s.id, 0, 0, ""))
	}
}

func (s *stream) chat() {
	for {
		b, ok := s.recv()
		if !ok {
			break
		}
		if !s.send(item(int(numbers(b)[1]), string(bytes.ToUpper([]byte(text(b, 2)))), len(text(b, 3)))) { //nolint:gosec // a test's
			return
		}
	}
	s.finish(End(s.id, 0, 0, ""))
}
