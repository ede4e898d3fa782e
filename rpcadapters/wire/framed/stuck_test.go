package framed

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestStuckFrame: a connection on which a frame does not come to its end is given up, and the next call has another one.
func TestStuckFrame(t *testing.T) {
	for name, part := range map[string][]byte{
		"in its head":  {0, 0},
		"small":        unary("cut off").AppendFrame(nil, 1)[:12],
		"large":        append([]byte{0, 100, 0, 0, 'u', 0, 0, 0, 1}, make([]byte, 10)...),
		"not taken":    append([]byte{9, 0, 0, 0, 'u', 0, 0, 0, 1}, make([]byte, 1000)...),
		"after others": append(unary("push").AppendFrame(nil, 77), 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			t.Cleanup(func() { ln.Close(); <-served })
			go func() {
				defer close(served)
				for i := 0; ; i++ {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					request := unary("hello").AppendFrame(nil, 1)
					_, _ = io.ReadFull(c, request)
					if i > 0 {
						_, _ = c.Write(request) // which is its own answer
					} else {
						_, _ = c.Write(part)
					}
					_, _ = io.Copy(io.Discard, c) // until the client closes it
					c.Close()
				}
			}()
			cl, err := NewClient(ClientConfig{Framing: framing{}, Address: ln.Addr().String(), FrameTimeout: time.Millisecond, Conns: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			over := make(chan error, 1)
			go func() {
				var c Call
				err := cl.Unary(t.Context(), &c, unary("hello"))
				if c.Reset(); name == "not taken" { // which is known at once, while the connection is stuck
					err = cl.Unary(t.Context(), &c, unary("hello"))
					c.Reset()
				}
				over <- err
			}()
			for waiting := true; waiting; {
				select {
				case err := <-over:
					if f, ok := errors.AsType[*Fault](err); !ok || f.Kind != Broken || !f.Sent || !errors.Is(f.Cause, errStuck) {
						t.Errorf("found %v", err)
					}
					waiting = false
				default:
					cl.sweep()
					time.Sleep(time.Millisecond) // for time to pass, which is what is asked about
				}
			}
			var c Call
			defer c.Reset()
			if err := cl.Unary(t.Context(), &c, unary("hello")); err != nil || string(c.Answer()[headLen:]) != "hello" {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}
