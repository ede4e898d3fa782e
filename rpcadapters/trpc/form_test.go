package trpc

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// failWire is a message of kit.proto in protobuf and, by its fields' numbers less one, in the encoding of TARS: an int and a
// string.
var (
	failWire = field(field(nil, 1, 300), 2, "hi")
	failJCE  = []byte{0x01, 0x01, 0x2c, 0x16, 0x02, 'h', 'i'}
)

// TestJCEBoth: messages in jce, of services that know nothing of TARS, both ways and on both sides.
func TestJCEBoth(t *testing.T) {
	s := kitSchema(t)
	m := method(t, s, "/trpc.kit.echo.Echo/Fail")
	o := &trpcv1.Options{ContentType: "jce"}
	srv := &trpckit.Server{Unary: func(req *trpckit.Frame) (*trpckit.Frame, bool) {
		return trpckit.Response(req, nil).Set("content_type", req.Uint("content_type")), true
	}}
	tr := dial(t, listen(t, srv.Serve), o)
	var out rpc.Reply
	if err := tr.Unary(deadline(t), callOf(t, m, o), &rpc.Message{Data: failWire}, &out); err != nil || len(out.Message.Data) != 0 {
		t.Errorf("%v %x", err, out.Message.Data)
	}
	out.Reset()
	if req := srv.Requests()[0]; req.Uint("content_type") != contentJCE || !bytes.Equal(req.Body, failJCE) {
		t.Errorf("%v %x, want %x", req.Header, req.Body, failJCE)
	}

	d := newDoor(t, s)
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.Request(7, m.Name, failJCE).Set("content_type", uint32(contentJCE)))
	if f := p.next(); f.Int("func_ret") != 300 || f.Text("error_msg") != "hi" {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Request(8, m.Name, []byte{0x0e}).Set("content_type", uint32(contentJCE)))
	if f := p.next(); f.Int("ret") != 1 {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", failJCE).Set("content_type", uint32(contentJCE))) // it contains itself
	if f := p.next(); f.Int("ret") != 1 {
		t.Errorf("%v", f.Header)
	}
}

// TestRequestTooLarge: what a server would close the connection for is not sent.
func TestRequestTooLarge(t *testing.T) {
	s := kitSchema(t)
	srv, addr := kit(t)
	tr := dial(t, addr, nil)
	var out rpc.Reply
	large := &rpc.Message{Data: make([]byte, defaultMaxFrame)}
	err := tr.Unary(deadline(t), callOf(t, method(t, s, "/trpc.kit.echo.Echo/Echo"), nil), large, &out)
	if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.ResourceExhausted || e.Status != 413 || e.Executed {
		t.Errorf("%v", err)
	}
	st := open(t, tr, callOf(t, method(t, s, kitSum), nil))
	if e, ok := errors.AsType[*rpc.Error](st.Send(large)); !ok || e.Status != 413 {
		t.Errorf("%v", e)
	}
	send(t, st, item(0, "x"))
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
