package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Outward is an adapter and a server for it, which does what Echo does with Unary.
type Outward struct {
	Adapter rpcadapters.Adapter
	Options proto.Message // nil where the adapter has none
	Address string
	// NotFound is what NOT_FOUND of a service arrives as, where the protocol has no such code; 0: as NOT_FOUND.
	NotFound codes.Code

	method *schema.Method
}

// Outbound holds an adapter against the contract of Transport.
func Outbound(t *testing.T, o Outward) {
	o.method = Method(t, Schema(t), Unary)
	t.Run("a reply is its owner's", o.replies)
	t.Run("errors are classed", o.errors)
	t.Run("late answers are nobody's", o.late)
	t.Run("close lets calls end", o.close)
	t.Run("answers that are too large", o.large)
}

func (o *Outward) dial(t *testing.T, most int) rpcadapters.Transport {
	t.Helper()
	tr, err := o.Adapter.Dial(rpcadapters.Target{Address: o.Address, DialTimeout: 20 * time.Second, MaxMessage: most, Service: "s", Config: o.Options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() }) // also twice
	return tr
}

// call sends req and reads what comes into out, which is the caller's.
func (o *Outward) call(ctx context.Context, t *testing.T, tr rpcadapters.Transport, req *Message, out *rpc.Reply) *rpc.Error {
	raw, err := proto.Marshal(req)
	if err != nil {
		t.Error(err)
		return nil
	}
	c := &rpc.Call{Method: o.method, Header: rpc.Metadata{{Key: "x-echo", Value: req.GetText()}}, Protocol: "test", Service: "s"}
	if b, ok := o.Adapter.(rpcadapters.Binder); ok {
		if c.Plan, err = b.Bind(o.method, o.Options); err != nil {
			t.Error(err)
			return nil
		}
	}
	err = tr.Unary(ctx, c, &rpc.Message{Data: raw}, out)
	clear(raw) // nothing of the request may be held
	c.Header[0].Value = "spoilt"
	if err == nil {
		return nil
	}
	var e *rpc.Error
	if !errors.As(err, &e) {
		t.Errorf("want an *rpc.Error, found %T: %v", err, err)
		return rpc.AsError(err)
	}
	return e
}

// same holds a reply against the request.
func same(t *testing.T, req *Message, out *rpc.Reply) {
	var got Message
	if err := proto.Unmarshal(out.Message.Data, &got); err != nil || !proto.Equal(&got, req) {
		t.Errorf("%.40q: want its own answer, found %.40q, %v", req.GetText(), got.GetText(), err)
	}
}

// replies are their owners': they stay whole while others come, and freed bytes are seen by nobody (with the build tag poison
// they are overwritten).
func (o *Outward) replies(t *testing.T) {
	tr := o.dial(t, 4<<20)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			var kept rpc.Reply
			first := &Message{Text: fmt.Sprint("first of ", i), Data: bytes.Repeat([]byte{byte(i)}, 10_000)} //nolint:gosec // less than 8
			if e := o.call(ctx, t, tr, first, &kept); e != nil {
				t.Error(e)
				return
			}
			shared := kept.Message.Retain()
			for j := range 20 {
				var out rpc.Reply
				req := &Message{Text: fmt.Sprint(i, " ", j), Data: make([]byte, j*1000)}
				if e := o.call(ctx, t, tr, req, &out); e != nil {
					t.Error(e)
					return
				}
				same(t, req, &out)
				// x-echo itself may be left out, as what a server only sends back.
				if echoed := out.Trailer.Get("x-echo-trailer") + out.Header.Get("x-echo-trailer"); echoed != req.GetText() {
					t.Errorf("want its own metadata, found %q %q", out.Header, out.Trailer)
				}
				out.Reset()
			}
			kept.Reset()
			same(t, first, &rpc.Reply{Message: shared})
			shared.Free()
		})
	}
	all.Wait()
}

func (o *Outward) errors(t *testing.T) {
	tr := o.dial(t, 4<<20)
	want := o.NotFound
	if want == codes.OK {
		want = codes.NotFound
	}
	var out rpc.Reply
	defer out.Reset()
	if e := o.call(t.Context(), t, tr, &Message{Text: "fail 5 gone"}, &out); e == nil || e.Code != want || e.Class != rpc.Business || !e.Executed || e.Native != int32(codes.NotFound) || e.Message != "gone" {
		t.Errorf("an error of the method: found %+v", e)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if e := o.call(ended, t, tr, &Message{Text: "wait"}, &out); e == nil || e.Code != codes.Canceled {
		t.Errorf("a context that had ended: found %+v", e)
	}
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if e := o.call(past, t, tr, &Message{Text: "wait"}, &out); e == nil || e.Code != codes.DeadlineExceeded {
		t.Errorf("a deadline that had passed: found %+v", e)
	}
}

// late: calls that were left are answered when their time is over, and those after them have their own answers.
func (o *Outward) late(t *testing.T) {
	tr := o.dial(t, 4<<20)
	const wait = 200 * time.Millisecond
	var out rpc.Reply
	defer out.Reset()
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		left := time.AfterFunc(wait/20, cancel)
		if e := o.call(ctx, t, tr, &Message{Text: "wait"}, &out); e == nil || e.Code != codes.Canceled && e.Code != codes.DeadlineExceeded {
			t.Errorf("want it cancelled, found %+v", e)
		}
		left.Stop()
		cancel()
	}
	for end, i := time.Now().Add(2*wait), 0; time.Now().Before(end); i++ {
		req := &Message{Text: fmt.Sprint("after ", i), Number: int64(i)}
		if e := o.call(t.Context(), t, tr, req, &out); e != nil {
			t.Fatal(e)
		}
		same(t, req, &out)
		out.Reset()
	}
}

func (o *Outward) close(t *testing.T) {
	tr := o.dial(t, 4<<20)
	var first rpc.Reply
	if e := o.call(t.Context(), t, tr, &Message{}, &first); e != nil {
		t.Fatal(e)
	}
	first.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	var begun sync.WaitGroup
	for range 5 {
		begun.Add(1)
		all.Go(func() {
			var out rpc.Reply
			defer out.Reset()
			begun.Done()
			// It may come after the close, or be over before anybody has noticed.
			if e := o.call(ctx, t, tr, &Message{Text: "wait"}, &out); e == nil || e.Code != codes.DeadlineExceeded && (e.Executed || e.Code != codes.Unavailable) {
				t.Errorf("want the call to last as long as it may, found %+v", e)
			}
		})
	}
	begun.Wait()
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	var out rpc.Reply
	defer out.Reset()
	if e := o.call(t.Context(), t, tr, &Message{}, &out); e == nil || e.Executed || e.Class == rpc.Business {
		t.Errorf("after Close: want an error, nothing executed, found %+v", e)
	}
	all.Wait()
}

func (o *Outward) large(t *testing.T) {
	tr := o.dial(t, 64<<10)
	var out rpc.Reply
	defer out.Reset()
	req := &Message{Data: make([]byte, 200<<10)}
	if e := o.call(t.Context(), t, tr, req, &out); e == nil || e.Code != codes.ResourceExhausted || e.Class == rpc.Business {
		t.Errorf("want RESOURCE_EXHAUSTED, found %+v", e)
	}
	small := &Message{Text: "small"}
	if e := o.call(t.Context(), t, tr, small, &out); e != nil {
		t.Fatal(e)
	}
	same(t, small, &out)
}
