// Package http2 is HTTP/2 (RFC 9113) on a connection: a core of frames, header blocks, flow control and combined writing,
// the client that carries calls to an upstream over it, and the server that takes them from callers.
//
// # The core
//
// Both sides are built of these pieces, which are not exported:
//
//   - frameReader reads frames in place from one buffer per connection. next fills a frame whose payload is valid until
//     the following next. It refuses what RFC 9113 refuses by the frame alone (lengths, stream ids, padding) and joins
//     CONTINUATION frames, within limits, so that whoever reads sees whole header blocks. A *ConnError ends the
//     connection; inFrame.fault is an error of the stream alone, and the frame still counts for what the connection shares
//     (HPACK state, connection credit).
//   - appendData, appendHeaders, appendSettings, ... append frames to a batch.
//   - writer owns the batch of a connection and its lock, which is the connection's one lock: whoever sends locks w,
//     changes the connection's state, appends to w.Batch, and ends with unlockFlush (callers and workers: the first one
//     yields once and writes for all) or unlockKick (the goroutine that reads, which must never write itself).
//     room tells whether senders of DATA and HEADERS may append; those who may not wait for the connection's onRoom.
//   - sendWindow and recvWindow are the flow control of one direction of a stream or a connection.
//   - headerDecoder makes fields of a header block, checked against RFC 9113 section 8; headMemo keeps decoded answers by
//     their bytes once the peer has acknowledged a header table of size 0.
//   - AppendField, AppendIndexed and their like encode header fields without state, so that parts can be made in advance.
//   - floodGuard counts frames that cost the receiver more than the sender and are no part of a call.
//
// # The client
//
// A Client is a pool of connections to one address, made when calls need them. A Call is unary: Unary appends the request to
// the connection's batch and blocks until the reading goroutine has put the answer into the Call. A Stream is read and
// written piece by piece. Both fail with a *Fault, which says whether the peer may have looked at the request. One timer per
// Client, which sleeps while no call waits, looks for peers that have gone silent.
//
// Whoever reads never blocks and never writes; whoever writes never waits for the network longer than it takes to hand
// bytes to the kernel, so deadlines hold while a peer does not read.
//
// # The server
//
// One goroutine of a connection reads and acts on frames; each request's call runs on a worker, a goroutine that the
// server keeps from call to call. A stream's state is guarded by the connection's lock; a worker that waits, for a body or
// for a window, waits on the stream's condition. Time comes from outside: Sweep ends what is overdue. What a client may ask
// for is in Limits. Over TLS a worker writes itself and may wait for the network; its answer is in the batch by then. There
// is no way in by "Upgrade: h2c", only ALPN and prior knowledge.
package http2
