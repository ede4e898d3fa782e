package tars

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// answerOf is a frame that answers a call with a text.
func answerOf(id int32, text string) []byte {
	packet := AppendResponse(nil, &Response{Version: 1, ID: id, Body: tarswire.AppendString(nil, 0, text)})
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(packet)+4)), packet...)
}

// withLength is a frame that says it has n bytes.
func withLength(n uint32, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, n), content...)
}

// nested is a body of lists in lists.
func nested(n int) []byte {
	var b []byte
	for range n {
		b = append(b, 0x09, 0x00, 0x01)
	}
	return append(b, 0x0c)
}

// TestHostileServant: whatever a servant sends, the call fails as it should or has its answer, nothing panics or hangs, and a
// servant that is well again is used.
func TestHostileServant(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	broken := codes.Unavailable
	response := func(id int32, body []byte) []byte {
		packet := AppendResponse(nil, &Response{Version: 1, ID: id, Body: body})
		return withLength(uint32(len(packet)+4), packet)
	}
	for name, mode := range map[string]struct {
		frames func(id int32) []byte // then the connection is closed, unless open
		open   bool
		code   codes.Code // OK: it is answered
	}{
		"length 0":               {func(int32) []byte { return withLength(0, nil) }, true, broken},
		"length 3":               {func(int32) []byte { return withLength(3, nil) }, true, broken},
		"length 4":               {func(int32) []byte { return withLength(4, nil) }, true, broken},
		"length 2^31":            {func(int32) []byte { return withLength(1<<31, []byte("x")) }, true, broken},
		"length -1":              {func(int32) []byte { return withLength(1<<32-1, []byte("x")) }, true, broken},
		"a GiB that never comes": {func(id int32) []byte { return withLength(1<<30, answerOf(id, "x")[4:]) }, true, broken},
		"100 MiB that never come": {func(id int32) []byte {
			return withLength(100<<20, append(answerOf(id, "x")[4:], make([]byte, 1000)...))
		}, true, codes.ResourceExhausted},
		"closed at once":            {func(int32) []byte { return nil }, false, broken},
		"the wrong id":              {func(id int32) []byte { return append(answerOf(id+1, "no"), answerOf(id, "ok")...) }, true, codes.OK},
		"the same id twice":         {func(id int32) []byte { return append(answerOf(id, "ok"), answerOf(id, "no")...) }, true, codes.OK},
		"an id of 0 without a word": {func(id int32) []byte { return append(answerOf(0, "push"), answerOf(id, "ok")...) }, true, codes.OK},
		"bytes behind the answer":   {func(id int32) []byte { return append(answerOf(id, "ok"), "more"...) }, true, codes.OK},
		"an unknown type":           {func(id int32) []byte { return response(id, []byte{0x0e}) }, true, codes.Internal},
		"a list of 2^31-1": {func(id int32) []byte {
			return response(id, []byte{0x29, 0x02, 0x7f, 0xff, 0xff, 0xff, 0x06, 0x01, 'x'})
		}, true, codes.Internal},
		"a list of -1":                 {func(id int32) []byte { return response(id, []byte{0x29, 0x00, 0xff}) }, true, codes.Internal},
		"a map of 2^31-1":              {func(id int32) []byte { return response(id, []byte{0x28, 0x02, 0x7f, 0xff, 0xff, 0xff}) }, true, codes.Internal},
		"bytes of 2^31-1":              {func(id int32) []byte { return response(id, []byte{0x2d, 0x00, 0x02, 0x7f, 0xff, 0xff, 0xff}) }, true, codes.Internal},
		"10,000 levels":                {func(id int32) []byte { return response(id, append([]byte{0x06, 0x02, 'o', 'k'}, nested(10000)...)) }, true, codes.Internal},
		"a struct that does not end":   {func(id int32) []byte { return response(id, []byte{0x06, 0x02, 'o', 'k', 0x1a, 0x06}) }, true, codes.Internal},
		"an end without a struct":      {func(id int32) []byte { return response(id, []byte{0x0b}) }, true, codes.Internal},
		"the answer twice in the body": {func(id int32) []byte { return response(id, []byte{0x06, 0x01, 'a', 0x06, 0x01, 'b'}) }, true, codes.Internal},
		"an answer of another type":    {func(id int32) []byte { return response(id, []byte{0x00, 0x07}) }, true, codes.Internal},
		"a member that is not known":   {func(id int32) []byte { return response(id, []byte{0x06, 0x02, 'o', 'k', 0xf1, 0xff, 0x00, 0x07}) }, true, codes.OK},
		"text that is none":            {func(id int32) []byte { return response(id, []byte{0x06, 0x01, 0xff}) }, true, codes.Internal},
		"a context that is no map": {func(id int32) []byte {
			f := answerOf(id, "ok")
			f = append(f, 0x96, 0x01, 'x')
			binary.BigEndian.PutUint32(f, uint32(len(f)))
			return f
		}, true, codes.Internal},
		"leave, and never close": {func(id int32) []byte {
			p := AppendResponse(nil, &Response{Version: 1, Body: []byte{}, Desc: []byte(Reconnect)})
			return append(withLength(uint32(len(p)+4), p), answerOf(id, "ok")...)
		}, true, codes.OK},
		"a thousand pushes": {func(id int32) []byte {
			return append([]byte(strings.Repeat(string(answerOf(0, "push")), 1000)), answerOf(id, "ok")...)
		}, true, codes.OK},
		"a web server":                       {func(int32) []byte { return []byte("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n") }, false, broken},
		"an answer in pieces of one, closed": {func(id int32) []byte { f := answerOf(id, "ok"); return f[:len(f)-1] }, false, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var well atomic.Bool
			done := make(chan struct{})
			addr := peer(t, func(c net.Conn) {
				for {
					packet, err := readPacket(c)
					if err != nil {
						return
					}
					var r Request
					if ParseRequest(&r, packet) != nil {
						t.Error("a request that does not parse")
						return
					}
					if well.Load() {
						_, _ = c.Write(answerOf(r.ID, "ok"))
						continue
					}
					_, _ = c.Write(mode.frames(r.ID))
					if !mode.open {
						return
					}
				}
			})
			defer close(done)
			tr := dial(t, addr, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, got, err := invoke(ctx, t, tr, m, nil, nil, `{"name":"x"}`)
			var e *rpc.Error
			switch {
			case mode.code == codes.OK && (err != nil || got != `{"ret":"ok"}`):
				t.Errorf("found %s, %v", got, err)
			case mode.code != codes.OK && (!errors.As(err, &e) || e.Code != mode.code || !e.Executed):
				t.Errorf("want %s, executed, found %v", mode.code, err)
			}
			well.Store(true)
			if name == "100 MiB that never come" {
				return // the connection waits for them; calls on it end by their deadlines
			}
			for try := 0; ; try++ { // the connection of before may be on its way out
				_, got, err = invoke(ctx, t, tr, m, nil, nil, `{"name":"x"}`)
				if err == nil && got == `{"ret":"ok"}` {
					break
				}
				if try == 3 {
					t.Fatalf("the servant is well again: %s, %v", got, err)
				}
			}
			if tr.cl.Panics() != 0 {
				t.Errorf("%d panics", tr.cl.Panics())
			}
		})
	}
}

// TestCutAnswer: an answer that is cut off anywhere is no answer, and calls beside it on the connection fail as executed.
func TestCutAnswer(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	whole := answerOf(1, "hello")
	for n := range whole {
		addr := peer(t, func(c net.Conn) {
			var ids []int32
			for len(ids) < 2 {
				packet, err := readPacket(c)
				if err != nil {
					return
				}
				var r Request
				_ = ParseRequest(&r, packet)
				ids = append(ids, r.ID)
			}
			_, _ = c.Write(answerOf(ids[0], "hello")[:n])
		})
		tr := dial(t, addr, nil)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				_, got, err := invoke(t.Context(), t, tr, m, nil, nil, `{"name":"x"}`)
				var e *rpc.Error
				if !errors.As(err, &e) || e.Code != codes.Unavailable || !e.Executed || e.Class != rpc.Transport {
					t.Errorf("cut after %d bytes: %s, %v", n, got, err)
				}
			})
		}
		all.Wait()
	}
}

// TestHungServant: calls to a servant that takes connections and says nothing end at their deadlines, and hold little.
func TestHungServant(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	stop := make(chan struct{})
	defer close(stop)
	tr := dial(t, peer(t, func(net.Conn) { <-stop }), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, _, err := invoke(ctx, t, tr, m, nil, nil, `{"name":"`+strings.Repeat("x", 100<<10)+`"}`)
			var e *rpc.Error
			if !errors.As(err, &e) || e.Code != codes.DeadlineExceeded {
				t.Errorf("found %v", err)
			}
		})
	}
	all.Wait()
}

// TestHostileClient: whatever a client sends, it gets a refusal or its connection is closed; nothing is run, held or torn.
func TestHostileClient(t *testing.T) {
	s := kit(t)
	good := kitRequest(t, s, "hello", `{"name":"x"}`, nil)
	frame := func(p []byte) []byte { return withLength(uint32(len(p)+4), p) }
	with := func(change func(r *Request)) []byte { return frame(kitRequest(t, s, "hello", `{"name":"x"}`, change)) }
	for name, mode := range map[string]struct {
		bytes []byte
		ret   int32 // 1: the connection is closed
	}{
		"length 0":                {withLength(0, nil), 1},
		"length 3":                {withLength(3, nil), 1},
		"length 4":                {withLength(4, nil), 1},
		"length 2^31":             {withLength(1<<31, []byte("x")), 1},
		"length -1":               {withLength(1<<32-1, []byte("x")), 1},
		"http":                    {[]byte("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), 1},
		"a TLS hello":             {[]byte("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"), 1},
		"no id":                   {frame([]byte{0x10, 0x01}), 1},
		"an unknown type":         {frame([]byte{0x1e}), 1},
		"a servant of 4 GiB":      {frame(append([]byte{0x10, 0x01, 0x2c, 0x3c, 0x40, 0x07}, 0x57, 0xff, 0xff, 0xff, 0xff)), -1},
		"a context of 2^31-1":     {frame(append(append([]byte{}, good[:len(good)-4]...), 0x98, 0x02, 0x7f, 0xff, 0xff, 0xff)), -1},
		"10,000 levels":           {with(func(r *Request) { r.Body = append([]byte{0x16, 0x01, 'x'}, nested(10000)...) }), -1},
		"a string beyond the end": {with(func(r *Request) { r.Body = []byte{0x17, 0x7f, 0xff, 0xff, 0xff} }), -1},
		"a member twice":          {frame(append([]byte{0x10, 0x01}, good...)), -1},
		"an empty function":       {with(func(r *Request) { r.Function = nil }), -3},
		"a function with a NUL":   {with(func(r *Request) { r.Function = []byte("hello\x00") }), -3},
		"a servant of 64 KiB":     {with(func(r *Request) { r.Servant = make([]byte, 64<<10) }), -4},
		"a timeout of -1":         {with(func(r *Request) { r.Timeout = -1 }), 0},
		"the id 0":                {with(func(r *Request) { r.ID = 0 }), 0},
		"TUP that is none":        {with(func(r *Request) { r.Version = 3; r.Body = []byte{0x08, 0x00, 0x01, 0x06} }), -1},
		"JSON that is none":       {with(func(r *Request) { r.Version = 5; r.Body = []byte(strings.Repeat("[", 100000)) }), -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
				return message(t, c.Method.Output, `{"ret":"ok"}`), nil
			})
			srv, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
			c := connect(t, addr)
			if _, err := c.Write(mode.bytes); err != nil {
				t.Fatal(err)
			}
			if mode.ret == 1 {
				if b, err := io.ReadAll(c); len(b) > 0 && err == nil {
					t.Errorf("answered with %x", b)
				}
			} else {
				if a := readAnswer(t, c); a.Ret != mode.ret {
					t.Errorf("want %d, found %d %s", mode.ret, a.Ret, a.Desc)
				}
				if a := exchange(t, c, good); a.Ret != 0 || a.ID != 7 {
					t.Errorf("the next call: %+v", a)
				}
			}
			if srv.Panics() != 0 || d.panics != 0 {
				t.Errorf("%d panics", srv.Panics())
			}
		})
	}
}

// TestCutRequest: a request that is cut off anywhere is not run.
func TestCutRequest(t *testing.T) {
	s := kit(t)
	d := newDoor(t, s, kitListener(), func(context.Context, *rpc.Call, []byte) ([]byte, error) {
		t.Error("a request that was cut off has run")
		return nil, nil
	})
	srv, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	p := kitRequest(t, s, "hello", `{"name":"x"}`, nil)
	whole := withLength(uint32(len(p)+4), p)
	for n := range whole {
		c := connect(t, addr)
		_, _ = c.Write(whole[:n])
		_ = c.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); srv.Conns() > 0 || srv.Accepted() < int64(len(whole)); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open", srv.Conns())
		}
	}
}

// FuzzInlet sends bytes to an inlet, and holds it to answers that parse, as many at most as there were frames.
func FuzzInlet(f *testing.F) {
	s := kit(f)
	for _, c := range captures(f) {
		f.Add(withLength(uint32(len(c.requestPacket)+4), c.requestPacket))
	}
	two := kitRequest(f, s, "hello", `{"name":"x"}`, nil)
	f.Add(append(withLength(uint32(len(two)+4), two), withLength(uint32(len(two)+4), two)...))
	f.Add(withLength(3, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDoor(t, s, kitListener(), func(context.Context, *rpc.Call, []byte) ([]byte, error) {
			return nil, rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "none")
		})
		p, err := Inlet{}.New(d, kitListener(), rpcadapters.Limits{MaxMessage: 1 << 20, Budget: rpc.NewBudget(1 << 20)})
		if err != nil {
			t.Fatal(err)
		}
		whole, frames := 0, 0
		for len(data)-whole >= 4 {
			n := binary.BigEndian.Uint32(data[whole:])
			if n < 4 || uint64(n) > uint64(len(data)-whole) {
				break
			}
			whole += int(n)
			frames++
		}
		ours, theirs := net.Pipe()
		conn := p.NewConn(theirs, nil, nil, d)
		served := make(chan struct{})
		go func() { conn.Serve(); close(served) }()
		_ = ours.SetDeadline(time.Now().Add(20 * time.Second))
		const last = 0x5ca1ab1e
		ping := AppendRequest(nil, &Request{Version: 1, ID: last, Servant: []byte("s"), Function: []byte(pingFunction)})
		go func() {
			_, _ = ours.Write(append(data[:whole:whole], withLength(uint32(len(ping)+4), ping)...))
		}()
		for n := 0; ; n++ {
			packet, err := readPacket(ours)
			if err != nil {
				break // it has closed the connection
			}
			var a Response
			if err := ParseResponse(&a, packet); err != nil {
				t.Fatalf("answered with %x: %v", packet, err)
			}
			if n > frames {
				t.Fatalf("more answers than frames, %d", frames)
			}
			if a.ID == last {
				break
			}
		}
		_, _ = ours.Write(data[whole:]) // what is no whole frame
		_ = ours.Close()
		<-served
		if d.options.Budget.Used() != 0 || d.found != d.left || len(d.sent) != d.found {
			t.Fatalf("%d bytes held, %d calls found, %d left, %d told of", d.options.Budget.Used(), d.found, d.left, len(d.sent))
		}
	})
}
