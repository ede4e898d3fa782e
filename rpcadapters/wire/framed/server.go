package framed

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// ServerConfig says what a Server serves, and bounds what its clients may ask for. The zero value of a field means what
// stands beside it.
type ServerConfig struct {
	Framing Framing // must be given
	Service Service // must be given

	MaxFrame int // bytes of one frame: 10 MiB
	// Calls is how many calls of a connection run at once; it is not read while there are as many: 1000.
	Calls int
	// Streams is how many of them are streams; more come with Refused: 100.
	Streams int
	// Idle is for a connection without calls: 300 s.
	Idle time.Duration
	// FrameTimeout is for a frame that has begun to come to its end, and a second more for each KiB of it: 10 s.
	FrameTimeout time.Duration
	// WriteTimeout is for a client to take what is waiting for it: 60 s.
	WriteTimeout time.Duration
	// Budget is what the frames of requests are taken from while they are held; nil: no bound.
	Budget *rpc.Budget
	// Unasked is for the calls of a client that has closed its side, where there is no Leave: 1 s.
	Unasked time.Duration
	// Leave asks a client to leave the connection; its number is 0. nil: the protocol has no such word.
	Leave Frame
	// LeaveIn is Leave for clients whose last frame had a form that is listed here.
	LeaveIn map[uint8]Frame
}

// Service says who handles what comes on the connections of a server.
type Service interface {
	// Begin takes a frame that begins a call or a stream. It is called by the goroutine that reads, and must not block. nil:
	// the frame is passed over. A Handler of a stream is a Sink as well.
	Begin(in *Incoming) Handler
}

// Handler handles one call.
type Handler interface {
	// Run handles it, on a goroutine of its own. in is not used after Run has returned.
	Run(in *Incoming)
}

// Server makes connections of a protocol; it implements wire.Protocol. Its methods are safe for concurrent use.
type Server struct {
	cfg     ServerConfig
	workers workers
	calls   sync.Pool // of *Incoming
	panics  atomic.Int64
}

var _ wire.Protocol = (*Server)(nil)

const (
	defaultCalls        = 1000
	defaultStreams      = 100
	defaultIdle         = 300 * time.Second
	defaultFrameTimeout = 10 * time.Second
	defaultWriteTimeout = 60 * time.Second
	defaultUnasked      = time.Second
	slowest             = 1 << 10     // bytes a second of a frame that come at least, beyond FrameTimeout
	linger              = time.Second // for a client to close a connection that we have ended
	roundTrip           = time.Second // between asking a client to leave and leaving
	// A client that has closed its side is sent nothing while calls may be quick, then a word, and others after twice the time.
	quickCalls    = 30 * time.Millisecond
	firstPatience = 20 * time.Millisecond
)

// NewServer makes a server.
func NewServer(cfg ServerConfig) *Server {
	cfg.MaxFrame, cfg.Calls, cfg.Streams = cmp.Or(cfg.MaxFrame, defaultMaxFrame), cmp.Or(cfg.Calls, defaultCalls), cmp.Or(cfg.Streams, defaultStreams)
	cfg.Idle, cfg.FrameTimeout = cmp.Or(cfg.Idle, defaultIdle), cmp.Or(cfg.FrameTimeout, defaultFrameTimeout)
	cfg.WriteTimeout, cfg.Unasked = cmp.Or(cfg.WriteTimeout, defaultWriteTimeout), cmp.Or(cfg.Unasked, defaultUnasked)
	s := &Server{cfg: cfg}
	s.calls.New = func() any { return &Incoming{ctx: &wire.Context{}} }
	return s
}

// Panics is how many calls ended in a panic that their handler let through: a fault of the program, not of a client.
func (s *Server) Panics() int64 { return s.panics.Load() }

// NewConn implements wire.Protocol.
func (s *Server) NewConn(nc net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn {
	c := &serverConn{s: s, conn: nc, tls: state, idleSince: time.Now()}
	c.counter, _ = h.(wire.Counter)
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		c.peer = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	c.room.L, c.ended.L = &c.w, &c.w
	c.r = newReader(socket.NewReader(nc), s.cfg.Framing, s.cfg.MaxFrame, s.cfg.Budget, read)
	c.w.Init(nc, batch.Owner{
		OnRoom: c.room.Broadcast, OnShut: c.room.Broadcast, OnError: func(error) { c.abandon() }, Direct: state != nil, Alone: c.lone, Panics: &s.panics,
	})
	c.w.Half = true
	return c
}

// Incoming is a call that has come to a server. Its fields are read-only and valid until Handler.Run returns.
type Incoming struct {
	ID    uint32
	Kind  Kind
	Frame []byte // all of it, or its beginning where Refused says so
	// Refused says why the frame was not taken, or the call is not wanted.
	Refused Refused
	Start   time.Time // when it was read
	Peer    netip.AddrPort
	TLS     *tls.ConnectionState // nil in plain text

	entry
	c       *serverConn
	buf     *rpc.Buffer
	took    int
	ctx     *wire.Context
	handler Handler
	sink    Sink
	before  *Incoming // in the connection's list
	after   *Incoming
	stopped bool // guarded by the connection's lock
	kept    bool // guarded by the connection's lock: see Keep
}

// Context is the call's: it ends with the connection, at its deadline (see wire.Context.SetDeadline), and when it is
// cancelled.
func (in *Incoming) Context() *wire.Context { return in.ctx }

// Keep has a call go on though its client leaves, or has left already: one that nobody waits for. The handler says so before it
// uses Context.
func (in *Incoming) Keep() {
	c := in.c
	c.w.Lock()
	defer c.w.Unlock()
	if in.kept = true; !c.cut && in.ctx.Err() != nil {
		in.ctx.Reset(context.Background())
	}
}

// Send sends a frame, and waits while the client does not take what is there. The error says that the client has gone, or
// that Stop was called.
func (in *Incoming) Send(r Frame) error {
	c := in.c
	c.w.Lock()
	appended := false
	defer func() {
		if !appended {
			c.w.Unlock()
		}
	}()
	for !in.stopped && c.w.Err == nil && !c.lost && !c.w.Room() {
		c.room.Wait()
	}
	switch {
	case c.w.Err != nil || c.lost || c.w.Ending:
		return net.ErrClosed
	case in.stopped:
		return context.Canceled
	}
	c.w.Batch = r.AppendFrame(c.w.Batch, in.ID)
	appended = true
	c.w.UnlockFlush()
	return nil
}

// SendNow sends a frame without waiting, also from a Sink and from Begin. A client that has us speak and does not read loses
// the connection.
func (in *Incoming) SendNow(r Frame) {
	c := in.c
	c.w.Lock()
	if c.w.Err != nil || c.lost || c.w.Ending {
		c.w.Unlock()
		return
	}
	appended := false
	defer func() {
		if !appended {
			c.w.Unlock()
		}
	}()
	c.w.Batch = r.AppendFrame(c.w.Batch, in.ID)
	appended = true
	if c.w.Flooded() {
		c.w.Unlock()
		c.abandon()
		return
	}
	c.w.UnlockKick()
}

// Stop makes a Send that waits, and all later ones, return an error. It may be called while Run runs, by any goroutine.
func (in *Incoming) Stop() {
	c := in.c
	c.w.Lock()
	defer c.w.Unlock()
	in.stopped = true
	c.room.Broadcast()
}

// run handles the call. It is a worker's.
func (in *Incoming) run() {
	s, c := in.c.s, in.c
	clean := false
	defer func() {
		if !clean {
			_ = recover() // the handler's own recover has told what there is to tell
			s.panics.Add(1)
			c.done(in)
			c.abandon() // nobody knows what went out
		}
	}()
	in.handler.Run(in)
	clean = true
	c.done(in)
	in.release(s)
}

// free gives the frame back.
func (in *Incoming) free() {
	if in.buf != nil {
		in.buf.Free()
		in.c.s.cfg.Budget.Give(in.took)
		in.buf, in.took = nil, 0
	}
}

// release makes in ready for the next call, unless somebody holds on to its context.
func (in *Incoming) release(s *Server) {
	if in.ctx.Release() {
		*in = Incoming{ctx: in.ctx}
		s.calls.Put(in)
	}
}
