package adaptive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "min", Config: `{min: -1}`, Path: "min", Want: "wanted 1 to 1000000, found -1", Fix: "how many"},
		{Name: "max", Config: `{min: 10, max: 9}`, Path: "max", Want: "wanted 10 to 1000000, found 9", Fix: "min"},
		{Name: "initial", Config: `{min: 10, max: 20, initial: 30}`, Path: "initial", Want: "wanted 10 to 20, found 30", Fix: "max"},
		{Name: "tolerance", Config: `{tolerance: 1}`, Path: "tolerance", Want: "wanted 1.1 to 10, found 1", Fix: "2"},
		{Name: "no name", Config: `{classes: [{share: 0.5}]}`, Path: "classes[0]", Want: "no name", Fix: "name"},
		{Name: "names", Config: `{classes: [{name: a, when: "true"}, {name: a}]}`, Path: "classes[1].name", Want: "another class", Fix: "own"},
		{Name: "share", Config: `{classes: [{name: a, share: 2}]}`, Path: "classes[0].share", Want: "wanted 0.01 to 1, found 2", Fix: "0.5"},
		{Name: "behind all", Config: `{classes: [{name: a}, {name: b}]}`, Path: "classes[1]", Want: "no call comes here", Fix: "end"},
		{Name: "when", Config: `{classes: [{name: a, when: "nobody"}]}`, Path: "classes[0].when", Want: "undeclared reference", Fix: "mend"},
		{Name: "answer", Config: `{classes: [{name: a, when: "answer.status == 200"}]}`, Path: "classes[0].when", Want: "not known yet", Fix: "request"},
	})
}

// there is a body that has come, or will when come is closed.
type there struct {
	rpc.Body
	come chan struct{}
}

func (b there) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	if b.come != nil {
		<-b.come
	}
	return &rpc.Message{}, nil
}

func call(header ...string) *rpc.Call {
	c := plugintest.Call("POST", "/", header...)
	c.Body = there{}
	return c
}

// held is a handler whose calls read their body and stay until end is closed.
type held struct{ in, end chan struct{} }

func (h held) Handle(ctx context.Context, c *rpc.Call) error {
	if _, err := c.Body.Message(ctx, nil); err != nil {
		return err
	}
	h.in <- struct{}{}
	<-h.end
	return nil
}

func TestRefusesWhatFindsNoRoom(t *testing.T) {
	end := held{make(chan struct{}), make(chan struct{})}
	h := plugintest.New(t, Kind, plugintest.Env(t), `{min: 2, max: 4, initial: 4, classes: [{name: paid, when: "metadata['plan'] == 'paid'"}, {name: rest, share: 0.5}]}`).Wrap(end)
	var wg sync.WaitGroup
	enter := func(header ...string) {
		t.Helper()
		wg.Go(func() {
			if err := h.Handle(t.Context(), call(header...)); err != nil {
				t.Error(err)
			}
		})
		<-end.in
	}
	refused := func(header ...string) {
		t.Helper()
		c := call(header...)
		c.Body = nothing{c.Body, t}
		e := plugintest.Refused(t, h.Handle(t.Context(), c), codes.Unavailable, 0, ReasonOverloaded)
		if e.Header.Get("retry-after") != "1" {
			t.Errorf("found %v", e.Header)
		}
	}
	enter()
	enter()
	refused() // half of the limit is in use
	enter("plan", "paid")
	enter("plan", "paid")
	refused("plan", "paid")
	// Streams pass.
	c := call()
	c.Method = &schema.Method{Name: "/a/B", Kind: schema.Bidi}
	wg.Go(func() { _ = h.Handle(t.Context(), c) })
	<-end.in
	close(end.end)
	wg.Wait()
	wg.Go(func() { <-end.in })
	if err := h.Handle(t.Context(), call()); err != nil {
		t.Errorf("want room again, found %v", err)
	}
	wg.Wait()
}

// nothing is a body that nobody may read.
type nothing struct {
	rpc.Body
	t *testing.T
}

func (b nothing) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	b.t.Error("want a refused call's body unread")
	return nil, errors.New("read")
}

// Callers who send slowly take no place; when their bodies come together, those that find no room are refused.
func TestSlowBodiesTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := plugintest.New(t, Kind, plugintest.Env(t), `{min: 2, max: 2}`)
		p.(*adaptive).limiter.ends.Store(math.MaxInt64)
		end := held{make(chan struct{}, 10), make(chan struct{})}
		h := p.Wrap(end)
		come := make(chan struct{})
		errs := make(chan error, 10)
		for range 10 {
			go func() {
				c := call()
				c.Body = there{come: come}
				errs <- h.Handle(t.Context(), c)
			}()
		}
		synctest.Wait()
		if n := p.(*adaptive).limiter.inside.Load(); n != 0 {
			t.Errorf("want no place taken, found %d", n)
		}
		close(come)
		synctest.Wait()
		for range 8 {
			plugintest.Refused(t, <-errs, codes.Unavailable, 0, ReasonOverloaded)
		}
		if n := p.(*adaptive).limiter.inside.Load(); n != 2 || len(end.in) != 2 {
			t.Errorf("want two places taken, found %d", n)
		}
		time.Sleep(time.Second)
		close(end.end)
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if l := p.(*adaptive).limiter; l.inside.Load() != 0 || l.n.Load() != 2 {
			t.Errorf("found %d inside, %d samples", l.inside.Load(), l.n.Load())
		}
	})
}

// What says nothing of the service is no sample, and gives its place back all the same.
func TestWhatIsNoSample(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{}`)
	p.(*adaptive).limiter.ends.Store(math.MaxInt64)
	for _, tc := range []struct {
		err    error
		sample bool
	}{
		{nil, true},
		{&rpc.Error{Code: codes.NotFound}, true},
		{rpc.Refuse(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "late"), true},
		{context.Canceled, false},
		{&rpc.Error{Code: codes.Unavailable, Class: rpc.Transport}, false},
		{rpc.Refuse(codes.PermissionDenied, "X", "no"), false},
	} {
		before := p.(*adaptive).limiter.n.Load()
		h := p.Wrap(&plugintest.Next{Do: func(ctx context.Context, c *rpc.Call) error {
			if _, err := c.Body.Message(ctx, nil); err != nil {
				t.Error(err)
			}
			return tc.err
		}})
		c := call()
		if err := h.Handle(t.Context(), c); !errors.Is(err, tc.err) {
			t.Errorf("found %v", err)
		}
		if _, ok := c.Body.(there); !ok {
			t.Error("want the call's own body back")
		}
		if l := p.(*adaptive).limiter; l.inside.Load() != 0 || l.n.Load()-before == 1 != tc.sample {
			t.Errorf("%v: found %d inside, %d samples", tc.err, l.inside.Load(), l.n.Load()-before)
		}
	}
	panics := p.Wrap(&plugintest.Next{Do: func(ctx context.Context, c *rpc.Call) error {
		_, _ = c.Body.Message(ctx, nil)
		panic("on purpose")
	}})
	func() {
		defer func() { _ = recover() }()
		_ = panics.Handle(t.Context(), call())
	}()
	if n := p.(*adaptive).limiter.inside.Load(); n != 0 {
		t.Errorf("found %d inside", n)
	}
}

// served reads the body, as forwarding does.
type served struct{}

func (served) Handle(ctx context.Context, c *rpc.Call) error {
	_, err := c.Body.Message(ctx, nil)
	return err
}

// ready is a body that costs nothing.
type ready struct{ rpc.Body }

var empty rpc.Message

func (ready) Message(context.Context, *schema.Message) (*rpc.Message, error) { return &empty, nil }

func TestAllocs(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{}`).Wrap(served{})
	c := plugintest.Call("POST", "/")
	c.Body = ready{}
	plugintest.Allocs(t, 0, h, c)
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, plugintest.Env(b), `{}`).Wrap(served{})
	c := plugintest.Call("POST", "/")
	c.Body = ready{}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(ctx, c)
	}
}

// The conditions that calls of a method come to are those up to a class which surely takes them; streams come to none.
func TestExpressions(t *testing.T) {
	e := plugintest.New(t, Kind, plugintest.Env(t), `{classes: [
		{name: a, when: "rpc.method == 'Get' && metadata.a == 'a'"}, {name: b, when: "rpc.method != 'List'"},
		{name: c, when: "message.tier == 'a'"}, {name: d}]}`).(plugin.Evaluator)
	for _, tc := range []struct {
		method schema.Method
		want   string
	}{
		{schema.Method{Name: "/acme.v1.Orders/Get"}, "[classes[0].when classes[1].when]"},
		{schema.Method{Name: "/acme.v1.Orders/List"}, "[classes[0].when classes[1].when classes[2].when]"},
		{schema.Method{Name: "/acme.v1.Orders/List", Kind: schema.Bidi}, "[]"},
	} {
		var got []string
		for _, x := range e.Expressions(&tc.method) {
			got = append(got, x.Path)
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s: want %s, found %v", tc.method.Name, tc.want, got)
		}
	}
}
