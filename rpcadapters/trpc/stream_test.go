package trpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

const (
	kitCount = "/trpc.kit.echo.Stream/Count"
	kitSum   = "/trpc.kit.echo.Stream/Sum"
	kitChat  = "/trpc.kit.echo.Stream/Chat"
)

func open(t testing.TB, tr *transport, c *rpc.Call) rpcadapters.ClientStream {
	t.Helper()
	s, err := tr.Open(deadline(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// receive receives until the end.
func receive(s rpcadapters.ClientStream) (messages []string, err error) {
	var m rpc.Message
	defer m.Free()
	for {
		if err := s.Recv(&m); err != nil {
			return messages, err
		}
		messages = append(messages, string(m.Data))
	}
}

func send(t testing.TB, s rpcadapters.ClientStream, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if err := s.Send(&rpc.Message{Data: []byte(m)}); err != nil {
			t.Fatal(err)
		}
	}
}

func item(index int, text string) string {
	var b []byte
	if index != 0 {
		b = field(b, 1, index)
	}
	return string(field(b, 2, text))
}

// TestCapturedStreams: the gateway's frames of a captured stream are those of the SDK's client, and of the captured answers the
// caller gets what the SDK's server sent.
func TestCapturedStreams(t *testing.T) {
	s := kitSchema(t)
	for _, c := range []struct {
		name     string
		messages []string
		code     codes.Code
		native   int32
	}{
		{name: "stream_server", messages: []string{item(0, "item-0"), item(1, "item-1"), item(2, "item-2")}},
		{name: "stream_server_zero"},
		{name: "stream_server_fail", messages: []string{item(0, "item-0")}, code: codes.Unknown, native: 10001},
		{name: "stream_client", messages: []string{"\x08\x03\x10\x03"}},
		{name: "stream_bidi", messages: []string{"\x12\x03ABC", "\x08\x01\x12\x03ABC"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := captures(t)[c.name]
			var sent []*trpckit.Frame
			for _, s := range steps {
				if s.client {
					f, err := trpckit.Read(bytes.NewReader(s.raw), true)
					if err != nil {
						t.Fatal(err)
					}
					sent = append(sent, f)
				}
			}
			got := make(chan []*trpckit.Frame, 1)
			addr := scripted(t, func(nc net.Conn) {
				var frames []*trpckit.Frame
				defer func() { got <- frames }()
				var id uint32
				for _, s := range steps {
					if s.client {
						f, err := trpckit.Read(nc, true)
						if err != nil {
							return
						}
						id = f.ID
						frames = append(frames, f)
						continue
					}
					f, err := trpckit.Read(bytes.NewReader(s.raw), false)
					if err != nil {
						return
					}
					f.ID = id
					write(nc, f)
				}
			})
			o := &trpcv1.Options{Caller: sent[0].Text("request_meta.caller"), Callee: sent[0].Text("request_meta.callee"), Window: 65535}
			tr := dial(t, addr, o)
			st := open(t, tr, callOf(t, method(t, s, sent[0].Text("request_meta.func")), o))
			for _, f := range sent[1:] {
				if f.Kind == trpckit.Data {
					send(t, st, string(f.Body))
				}
			}
			if err := st.CloseSend(); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			messages, err := receive(st)
			if fmt.Sprintf("%q", messages) != fmt.Sprintf("%q", c.messages) {
				t.Errorf("%q", messages)
			}
			if e, ok := errors.AsType[*rpc.Error](err); c.code == codes.OK && !errors.Is(err, io.EOF) || c.code != codes.OK && (!ok || e.Code != c.code || e.Native != c.native || e.Class != rpc.Business) {
				t.Errorf("%v", err)
			}
			st.Close()
			tr.Close()
			frames := <-got
			if len(frames) != len(sent) {
				t.Fatalf("%d frames, want %d", len(frames), len(sent))
			}
			for i, f := range frames {
				if i == 0 && f.ID != 100 {
					t.Errorf("the first stream has number %d", f.ID)
				}
				f.ID = sent[i].ID
				if !bytes.Equal(f.Bytes(), sent[i].Bytes()) {
					t.Errorf("frame %d: %x, the SDK sends %x", i, f.Bytes(), sent[i].Bytes())
				}
			}
		})
	}
}

// TestStreams: all kinds, over windows smaller than what passes, packed and not.
func TestStreams(t *testing.T) {
	s := kitSchema(t)
	for _, o := range []*trpcv1.Options{{Window: 65535}, {Window: 65535, Encoding: "gzip"}} {
		for _, unwindowed := range []bool{false, true} {
			t.Run(fmt.Sprint(o.GetEncoding(), unwindowed), func(t *testing.T) {
				srv := &trpckit.Server{Unwindowed: unwindowed}
				tr := dial(t, listen(t, srv.Serve), o)

				st := open(t, tr, callOf(t, method(t, s, kitCount), o))
				send(t, st, string(field(field(nil, 1, 60), 2, 5000)))
				if err := st.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if md, err := st.Header(); err != nil || len(md) != 0 {
					t.Errorf("%v %v", md, err)
				}
				messages, err := receive(st)
				if len(messages) != 60 || !errors.Is(err, io.EOF) || len(messages[7]) < 5000 {
					t.Fatalf("%d messages, %v", len(messages), err)
				}
				if got := st.Trailer(); len(got) != 1 || got[0] != (rpc.Pair{Key: "app-end", Value: "counted"}) {
					t.Errorf("trailer %v", got)
				}
				if err := st.Send(&rpc.Message{}); !errors.Is(err, io.EOF) {
					t.Errorf("sending on a stream that is over: %v", err)
				}

				st = open(t, tr, callOf(t, method(t, s, kitSum), o))
				big := item(0, strings.Repeat("x", 100_000)) // more than a window
				for range 4 {
					send(t, st, big)
				}
				if err := st.CloseSend(); err != nil {
					t.Fatal(err)
				}
				messages, err = receive(st)
				if want := string(field(field(nil, 1, 4), 2, 400_000)); len(messages) != 1 || messages[0] != want || !errors.Is(err, io.EOF) {
					t.Fatalf("%q %v", messages, err)
				}

				st = open(t, tr, callOf(t, method(t, s, kitChat), o))
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := range 100 {
						if err := st.Send(&rpc.Message{Data: []byte(item(i, strings.Repeat("abc", 1000)))}); err != nil {
							t.Error(err)
						}
					}
					if err := st.CloseSend(); err != nil {
						t.Error(err)
					}
				})
				messages, err = receive(st)
				wg.Wait()
				if len(messages) != 100 || messages[99] != item(99, strings.Repeat("ABC", 1000)) || !errors.Is(err, io.EOF) {
					t.Fatalf("%d %v", len(messages), err)
				}
				if n := len(srv.Resets()); n != 0 {
					t.Errorf("%d resets", n)
				}
			})
		}
	}
}

// TestStreamRefused: a server that refuses INIT ends the stream with its code.
func TestStreamRefused(t *testing.T) {
	s := kitSchema(t)
	addr := scripted(t, func(nc net.Conn) {
		f, err := trpckit.Read(nc, true)
		if err != nil {
			return
		}
		answer := trpckit.Opened(f.ID, 0, 12, "rpc name invalid").Set("request_meta.func", f.Text("request_meta.func"))
		write(nc, answer)
		_, _ = trpckit.Read(nc, true) // until it leaves
	})
	st := open(t, dial(t, addr, nil), callOf(t, method(t, s, kitChat), nil))
	for _, err := range []error{func() error { _, err := st.Header(); return err }(), func() error { _, err := receive(st); return err }()} {
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Unimplemented || e.Native != 12 || e.Message != "rpc name invalid" {
			t.Errorf("%v", err)
		}
	}
	if err := st.Send(&rpc.Message{}); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// TestStreamCancel: the end of a call's context, and giving it up, reset the stream at the server; nobody waits on.
func TestStreamCancel(t *testing.T) {
	s := kitSchema(t)
	srv, addr := kit(t)
	tr := dial(t, addr, nil)
	ctx, cancel := context.WithCancel(deadline(t))
	st, err := tr.Open(ctx, callOf(t, method(t, s, kitChat), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	send(t, st, item(1, "a"))
	var m rpc.Message
	if err := st.Recv(&m); err != nil {
		t.Fatal(err)
	}
	m.Free()
	done := make(chan error)
	go func() { done <- st.Recv(&m) }()
	cancel()
	if e, ok := errors.AsType[*rpc.Error](<-done); !ok || e.Code != codes.Canceled {
		t.Errorf("%v", e)
	}
	if err := st.Send(&rpc.Message{}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	eventually(t, "the reset", func() bool { return len(srv.Resets()) == 1 })
	if f := srv.Resets()[0]; f.Int("ret") != 161 {
		t.Errorf("%v", f.Header)
	}
	st = open(t, tr, callOf(t, method(t, s, kitChat), nil))
	st.Close()
	st.Close()
	eventually(t, "the second reset", func() bool { return len(srv.Resets()) == 2 })
	if tr.cl.Made() != 1 {
		t.Errorf("%d connections", tr.cl.Made())
	}
}

// TestStreamBroken: a connection that goes ends its streams.
func TestStreamBroken(t *testing.T) {
	s := kitSchema(t)
	srv, addr := kit(t)
	tr := dial(t, addr, nil)
	st := open(t, tr, callOf(t, method(t, s, kitChat), nil))
	if _, err := st.Header(); err != nil {
		t.Fatal(err)
	}
	srv.Cut()
	_, err := receive(st)
	if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Unavailable || !e.Executed || e.Class != rpc.Transport {
		t.Errorf("%v", err)
	}
	eventually(t, "sending ends", func() bool { return st.Send(&rpc.Message{}) != nil })
}

// TestStreamCrossed: servers of trpc-go forget a stream before its end is on the wire; what they say of a frame that comes in between
// is not the end.
func TestStreamCrossed(t *testing.T) {
	t.Parallel()
	s := kitSchema(t)
	addr := scripted(t, func(nc net.Conn) {
		f, err := trpckit.Read(nc, true)
		if err != nil {
			return
		}
		unknown := trpckit.End(f.ID, 1, 1, "uninitialized meta")
		write(nc, trpckit.Opened(f.ID, 65535, 0, ""), trpckit.Message(f.ID, []byte(item(1, "a"))), unknown, unknown, trpckit.End(f.ID, 0, 0, ""), unknown)
		_, _ = trpckit.Read(nc, true) // until it leaves
	})
	st := open(t, dial(t, addr, nil), callOf(t, method(t, s, kitChat), nil))
	if messages, err := receive(st); len(messages) != 1 || !errors.Is(err, io.EOF) {
		t.Errorf("%q %v", messages, err)
	}

	// A stream that was never opened is none, and so is one whose end does not come.
	addr = scripted(t, func(nc net.Conn) {
		f, err := trpckit.Read(nc, true)
		if err != nil {
			return
		}
		unknown := trpckit.End(f.ID, 1, 1, "uninitialized meta")
		write(nc, unknown)
		if f, err = trpckit.Read(nc, true); err != nil {
			return
		}
		unknown = trpckit.End(f.ID, 1, 1, "uninitialized meta")
		write(nc, trpckit.Opened(f.ID, 65535, 0, ""), unknown)
		_, _ = trpckit.Read(nc, true) // until it leaves
	})
	tr := dial(t, addr, nil)
	for range 2 {
		st := open(t, tr, callOf(t, method(t, s, kitChat), nil))
		_, err := receive(st)
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Internal || e.Native != 1 || e.Message != "uninitialized meta" {
			t.Errorf("%v", err)
		}
	}
}

// TestStreamLies: a peer that breaks the rules loses its stream, and that alone.
func TestStreamLies(t *testing.T) {
	s := kitSchema(t)
	echo := method(t, s, "/trpc.kit.echo.Echo/Echo")
	flood := func(id uint32) (out []byte) {
		for range 70 {
			out = append(out, trpckit.Message(id, make([]byte, 1000)).Bytes()...)
		}
		return out
	}
	for _, c := range []struct {
		name string
		lie  func(id uint32) []byte
		ret  int32 // that we reset it with; 0: it is over already
	}{
		{"data before INIT", func(id uint32) []byte { return trpckit.Message(id, nil).Bytes() }, 122},
		{"two INITs", func(id uint32) []byte {
			return append(trpckit.Opened(id, 65535, 0, "").Bytes(), trpckit.Opened(id, 65535, 0, "").Bytes()...)
		}, 122},
		{"more than its window", func(id uint32) []byte { return append(trpckit.Opened(id, 65535, 0, "").Bytes(), flood(id)...) }, 122},
		{"INIT that is none", func(id uint32) []byte {
			b := trpckit.Opened(id, 65535, 0, "").Bytes()
			b[16] = 0xff
			return b
		}, 122},
		{"CLOSE that is none", func(id uint32) []byte {
			b := trpckit.End(id, 1, 5, "text").Bytes()
			b[16] = 0xff
			return append(trpckit.Opened(id, 65535, 0, "").Bytes(), b...)
		}, 122},
		{"FEEDBACK that is none", func(id uint32) []byte {
			b := trpckit.Credit(id, 1).Bytes()
			b[16] = 0xff
			return append(trpckit.Opened(id, 65535, 0, "").Bytes(), b...)
		}, 122},
	} {
		t.Run(c.name, func(t *testing.T) {
			resets := make(chan *trpckit.Frame, 1)
			addr := scripted(t, func(nc net.Conn) {
				for {
					f, err := trpckit.Read(nc, true)
					switch {
					case err != nil:
						return
					case f.Kind == trpckit.Init:
						_, _ = nc.Write(c.lie(f.ID)) // it may have gone
						write(nc, trpckit.Message(f.ID+1, []byte("nobody's")))
						write(nc, trpckit.End(f.ID, 0, 0, ""))
					case f.Kind == trpckit.Close && f.Int("close_type") == 1:
						resets <- f
						write(nc, trpckit.End(f.ID, 1, f.Int("ret"), f.Text("msg")))
					case f.Kind == trpckit.Unary:
						write(nc, trpckit.Response(f, f.Body))
					}
				}
			})
			o := &trpcv1.Options{Window: 65535, Connections: 1}
			tr := dial(t, addr, o)
			st := open(t, tr, callOf(t, method(t, s, kitChat), o))
			if f := <-resets; f.Int("ret") != c.ret {
				t.Errorf("%v", f.Header)
			}
			_, err := receive(st)
			if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Reason != "UPSTREAM_MALFORMED" {
				t.Errorf("%v", err)
			}
			var out rpc.Reply
			if err := tr.Unary(deadline(t), callOf(t, echo, o), &rpc.Message{Data: []byte("\n\x01x")}, &out); err != nil || tr.cl.Made() != 1 {
				t.Errorf("afterwards: %v, %d connections", err, tr.cl.Made())
			}
			out.Reset()
		})
	}
}

// TestStreamCredit: a granted window that is far more than was used, and windows that overflow, do no harm.
func TestStreamCredit(t *testing.T) {
	s := kitSchema(t)
	addr := scripted(t, func(nc net.Conn) {
		f, err := trpckit.Read(nc, true)
		if err != nil {
			return
		}
		write(nc, trpckit.Opened(f.ID, 65535, 0, ""))
		for range 1000 {
			write(nc, trpckit.Credit(f.ID, ^uint32(0)))
		}
		for {
			f, err := trpckit.Read(nc, true)
			if err != nil {
				return
			}
			if f.Kind == trpckit.Close && f.Int("close_type") == 0 {
				write(nc, trpckit.End(f.ID, 0, 0, ""))
			}
		}
	})
	st := open(t, dial(t, addr, nil), callOf(t, method(t, s, kitSum), nil))
	for range 20 {
		send(t, st, strings.Repeat("x", 100_000))
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(st); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestStreamsAndCallsAtOnce: many streams share connections with calls; numbers of the two do not meet.
func TestStreamsAndCallsAtOnce(t *testing.T) {
	s := kitSchema(t)
	_, addr := kit(t)
	tr := dial(t, addr, nil)
	echo, chat := method(t, s, "/trpc.kit.echo.Echo/Echo"), method(t, s, kitChat)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			st, err := tr.Open(deadline(t), callOf(t, chat, nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			var m rpc.Message
			for j := range 20 {
				if err := st.Send(&rpc.Message{Data: []byte(item(j, fmt.Sprintf("s-%d", i)))}); err != nil {
					t.Error(err)
				}
				if err := st.Recv(&m); err != nil || string(m.Data) != item(j, fmt.Sprintf("S-%d", i)) {
					t.Errorf("%v %q", err, m.Data)
				}
				m.Free()
			}
		})
		wg.Go(func() {
			var out rpc.Reply
			for range 20 {
				want := string(field(nil, 1, strconv.Itoa(i)))
				if err := tr.Unary(deadline(t), callOf(t, echo, nil), &rpc.Message{Data: []byte(want)}, &out); err != nil || string(out.Message.Data) != want {
					t.Errorf("%v %q", err, out.Message.Data)
				}
				out.Reset()
			}
		})
	}
	wg.Wait()
}
