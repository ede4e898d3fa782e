package http1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// endless is a connection whose client sends the same request n times and takes every answer at once.
type endless struct {
	request []byte
	n       int
	done    chan struct{}
	once    sync.Once
}

func (e *endless) Read(p []byte) (int, error) {
	if e.n--; e.n < 0 {
		return 0, io.EOF
	}
	return copy(p, e.request), nil
}
func (*endless) Write(p []byte) (int, error)      { return len(p), nil }
func (e *endless) Close() error                   { e.once.Do(func() { close(e.done) }); return nil }
func (*endless) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*endless) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*endless) SetDeadline(time.Time) error      { return nil }
func (*endless) SetReadDeadline(time.Time) error  { return nil }
func (*endless) SetWriteDeadline(time.Time) error { return nil }

// only is a listener of one connection.
type only struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (o *only) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}
func (o *only) Close() error { o.once.Do(func() { close(o.closed) }); return nil }
func (*only) Addr() net.Addr { return &net.TCPAddr{} }

// BenchmarkCall is what a call costs in the engine, without the network: alone, and with deadline, sweeper and the look
// for the client's departure. The difference of the two is what time and departure cost.
func BenchmarkCall(b *testing.B) {
	b.Run("unwatched", func(b *testing.B) {
		b.ReportAllocs()
		start := cpu()
		e := &endless{request: []byte(call), n: b.N, done: make(chan struct{})}
		http1.New(http1.Limits{}, nil).NewConn(e, nil, nil, cannedHandler{}).Serve()
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
	})
	b.Run("watched", func(b *testing.B) {
		b.ReportAllocs()
		s := server.New(cannedHandler{true}, http1.New(http1.Limits{}, nil), nil, server.Options{})
		l := &only{conns: make(chan net.Conn), closed: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		b.ResetTimer()
		start := cpu()
		e := &endless{request: []byte(call), n: b.N, done: make(chan struct{})}
		l.conns <- e
		<-e.done
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
		b.StopTimer()
		if err := errors.Join(s.Shutdown(context.Background()), <-done); err != nil {
			b.Error(err)
		}
	})
}
