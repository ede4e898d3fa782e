package framed

import (
	"context"
	"sync/atomic"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Call is a unary call of a Client. The zero Call is ready; it is used for one call at a time, and again after Reset.
type Call struct {
	waiter
	entry

	req      Frame
	oneWay   bool
	at       int64 // where its frame begins in what the connection has sent
	answer   *rpc.Buffer
	fault    *Fault
	finished atomic.Bool // nothing more will come; what is not atomic is then the caller's
	tainted  bool        // a function of its context may still run
}

// Answer is the frame of the answer; nil when none came. The call owns it.
func (c *Call) Answer() []byte {
	if c.answer == nil {
		return nil
	}
	return c.answer.B
}

// Take hands the answer's buffer to the caller.
func (c *Call) Take() *rpc.Buffer {
	b := c.answer
	c.answer = nil
	return b
}

// Reset gives back what is left of an answer. false: the call must not be used again.
func (c *Call) Reset() (reusable bool) {
	if c.answer != nil {
		c.answer.Free()
	}
	if c.tainted {
		return false
	}
	// Not all of it: a late hint may still be on its way through sema.
	c.entry = entry{}
	c.req, c.oneWay, c.at, c.answer, c.fault = nil, false, 0, nil, nil
	c.finished.Store(false)
	c.ended.Store(false)
	c.turn, c.queued, c.failed = false, false, nil
	return true
}

// Unary sends a request and waits for its answer. The error is a *Fault. It holds nothing of ctx and r afterwards.
func (cl *Client) Unary(ctx context.Context, c *Call, r Frame) error {
	c.req, c.oneWay = r, false
	return c.do(ctx, cl)
}

// Tell sends a request that has no answer, and waits until it is on its way. Its number is nobody's afterwards: an answer
// would be dropped. The error is a *Fault.
func (cl *Client) Tell(ctx context.Context, c *Call, r Frame) error {
	c.req, c.oneWay = r, true
	return c.do(ctx, cl)
}

func (c *Call) do(ctx context.Context, cl *Client) error {
	if err := ctx.Err(); err != nil {
		return &Fault{Kind: Ended, Cause: err}
	}
	c.waiter.init(c)
	w := c.watch(ctx)
	fault := c.once(ctx, cl)
	c.tainted = !w.forget() || c.tainted
	c.req = nil
	if fault != nil {
		return fault
	}
	return nil
}

func (c *Call) once(ctx context.Context, cl *Client) *Fault {
	conn, fault := cl.start(ctx, &c.waiter)
	if fault != nil {
		return fault
	}
	if c.oneWay {
		return conn.told(c)
	}
	for {
		<-c.sema
		if c.finished.Load() {
			return c.fault
		}
		if c.ended.Load() {
			conn.cancel(ctx, c)
			return c.fault
		}
	}
}

// begin implements opener.
func (c *Call) begin(conn *clientConn) {
	c.id = conn.calls.number()
	c.at = conn.w.Position()
	conn.w.Batch = c.req.AppendFrame(conn.w.Batch, c.id)
	if !c.oneWay {
		c.entry.call = c
		conn.calls.put(&c.entry)
	}
}

// answered takes the frame of the answer. With the connection's lock held.
func (c *Call) answered(f *frame) {
	if f.why != Taken {
		c.fault = &Fault{Kind: AnswerTooLarge, Sent: true}
	} else {
		c.answer, f.buf = f.buf, nil
	}
	c.finished.Store(true)
}

// told says whether a frame that has no answer is on its way.
func (c *clientConn) told(call *Call) *Fault {
	c.w.Lock()
	defer c.w.Unlock()
	if c.w.Err == nil || c.w.Attempted(call.at) {
		return nil
	}
	return &Fault{Kind: Broken, Cause: c.w.Err}
}

// cancel gives a call up: its answer will be dropped.
func (c *clientConn) cancel(ctx context.Context, call *Call) {
	c.w.Lock()
	if call.finished.Load() {
		c.w.Unlock()
		return
	}
	c.calls.remove(&call.entry)
	// On a connection that lives, what is in the batch goes out.
	call.fault = &Fault{Kind: Ended, Sent: c.w.Err == nil || c.w.Attempted(call.at), Cause: context.Cause(ctx)}
	call.finished.Store(true)
	c.count()
	closing := c.closing
	c.w.Unlock()
	c.cl.released(1)
	if closing {
		c.leave()
	}
}
