// Package framed carries protocols whose connections are a row of frames, each with its length in front and the number of
// the call that it belongs to: many calls on one connection, answers in any order. A protocol says by its Framing how long a
// frame is, whose it is, and whether it is a word about the connection; the client and the server of such connections are
// here, for all of them.
//
// # The client
//
// A Client is a pool of connections to one address, made when calls need them.
//
//	func NewClient(cfg ClientConfig) (*Client, error)
//	func (cl *Client) Unary(ctx context.Context, c *Call, r Frame) error
//	func (cl *Client) Tell(ctx context.Context, c *Call, r Frame) error     // one way: no answer is waited for
//	func (cl *Client) Open(ctx context.Context, s *Stream, to Sink, first Frame) error
//	func (cl *Client) Reach(ctx context.Context) error                      // whether the peer takes connections
//	func (cl *Client) Close()
//
// A Call is part of what an adapter pools per call; Unary puts the frame of the answer into it (Call.Answer, Call.Take). The
// request is a Frame: it is asked to append itself to what goes out once the connection has given the call its number, so a
// body is copied once. Numbers of unary calls and of streams are two spaces; 0 is never given out, nor is one that is in use.
// Frames with numbers that nobody waits for are dropped.
//
// Errors are *Fault. Fault.Sent is false only where it is certain that nobody has looked at the request. Failed makes of one
// the error that callers of the gateway get.
//
//	func (s *Stream) ID() uint32
//	func (s *Stream) Send(r Frame) error   // waits while the connection has no room
//	func (s *Stream) SendNow(r Frame)      // for words that cannot wait: credit, reset; also from a Sink
//	func (s *Stream) Close()               // no more frames: a Send that waits returns, the number is free
//
// Frames of a stream go to its Sink, in the goroutine that reads the connection: it must not block, and it bounds what it
// keeps by the protocol's own windows. How a stream ends is the protocol's business: Close says nothing to the peer.
//
// # The server
//
// A Server is a wire.Protocol. What comes is an Incoming; the Service says who handles it.
//
//	func NewServer(cfg ServerConfig) *Server
//	func (s *Server) NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn
//
//	type Service interface{ Begin(in *Incoming) Handler }   // in the goroutine that reads: must not block
//	type Handler interface{ Run(in *Incoming) }             // on a worker
//
//	func (in *Incoming) Context() *wire.Context             // ends with the connection, at the deadline, by Cancel
//	func (in *Incoming) Send(r Frame) error                 // waits while the connection has no room
//	func (in *Incoming) SendNow(r Frame)
//	func (in *Incoming) Stop()                              // makes a Send that waits return
//	func (in *Incoming) Keep()                              // the call goes on though its client leaves
//
// A frame with Label.Kind Unary is a call of its own. One with Kind OfStream begins a stream where none with its number is
// open; the Handler that Begin returns for it has to be a Sink as well, and gets the frames that follow until Run returns.
// What cannot be taken (too large, no memory, too many streams) comes with Incoming.Refused, so that the protocol can
// answer in its own words. A connection with as many calls as it may have is not read until one has ended.
//
// A client that closes its side while unary calls of it run gets their answers where the protocol has a word to leave, which
// tells those who have gone from those who still read; else it gets those that take no longer than a second.
//
// # Who waits for whom
//
// Whoever reads a connection never blocks and never writes. Whoever sends appends under the connection's lock; the first to
// find nobody writing yields once, so that others may append, and writes for all, never longer than the kernel takes bytes
// at once: the rest is another goroutine's. So deadlines hold while a peer does not read. Bytes are only allocated as they
// come, whatever a length says.
package framed
