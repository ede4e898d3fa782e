package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// other is the service that gets copies.
type other struct {
	mu      sync.Mutex
	got     []string
	busy    int
	most    int // that were under way at once
	do      func(ctx context.Context, c *rpc.Call) error
	between chan struct{} // sent to when a copy has come; nil: nobody listens
}

func (o *other) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, _ *rpc.Reply) error {
	o.mu.Lock()
	o.got = append(o.got, fmt.Sprintf("%s %s %s %q %s", c.Method.Name, c.Service, c.ID, req.Data, lines(c.Header)))
	o.busy++
	o.most = max(o.most, o.busy)
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.busy--
		o.mu.Unlock()
	}()
	if o.between != nil {
		o.between <- struct{}{}
	}
	if o.do == nil {
		return nil
	}
	return o.do(ctx, c)
}

func (o *other) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.got)
}

func lines(m rpc.Metadata) string {
	var out []string
	for _, p := range m {
		out = append(out, p.Key+"="+p.Value)
	}
	return strings.Join(out, ",")
}

func env(t testing.TB, o *other) plugin.Env {
	e := plugintest.Env(t)
	e.Service = func(string) plugin.Service { return o }
	return e
}

// heldBody is a body whose bytes are overwritten when its call is over.
type heldBody struct{ data []byte }

func (b *heldBody) Raw(context.Context) ([]byte, error) { return b.data, nil }

func (b *heldBody) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	return &rpc.Message{Data: b.data}, nil
}

// pass makes a call with a message through h.
func pass(t testing.TB, h rpc.Handler, message string, header ...string) error {
	t.Helper()
	c := plugintest.Call("POST", "/", header...)
	b := &heldBody{[]byte(message)}
	c.Body = b
	err := h.Handle(t.Context(), c)
	for i := range b.data {
		b.data[i] = '!'
	}
	clear(c.Header)
	return err
}

// read is the last handler, which reads the body.
func read(_ context.Context, c *rpc.Call) error {
	c.Times.Body = time.Now()
	c.Header.Add("x-inner", "1")
	c.Attempts, c.Node = 2, "192.0.2.9:1"
	return nil
}

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func counted(t testing.TB, e plugin.Env, result string) string {
	t.Helper()
	for line := range strings.Lines(plugintest.Scrape(t, e)) {
		if rest, ok := strings.CutPrefix(line, `causeway_mirror_copies_total{result="`+result+`",service="next"} `); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestReadme(t *testing.T) {
	e := env(t, &other{})
	plugintest.Readme(t, Kind, e)
	plugintest.Metrics(t, Kind, e)
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, env(t, &other{}), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "service", Want: "no service", Fix: "name"},
		{Name: "share", Config: `{service: a, percent: -1}`, Path: "percent", Want: "found -1", Fix: "0 to 100"},
		{Name: "concurrency", Config: `{service: a, concurrency: 1001}`, Path: "concurrency", Want: "found 1001", Fix: "default"},
		{Name: "queue", Config: `{service: a, queue: -1}`, Path: "queue", Want: "found -1", Fix: "default"},
		{Name: "bytes", Config: `{service: a, max_bytes: -1}`, Path: "max_bytes", Want: "found -1", Fix: "default"},
		{Name: "timeout", Config: `{service: a, timeout: 0s}`, Path: "timeout", Want: "found 0s", Fix: "5s"},
	})
}

func TestServices(t *testing.T) {
	p := plugintest.New(t, Kind, env(t, &other{}), `{service: next}`)
	if chosen, called := p.(plugin.Director).Services(); chosen != nil || cmp.Diff([]string{"next"}, called) != "" { //nolint:forcetypeassert // it is, by the package
		t.Error(chosen, called)
	}
}

// A copy is the call as it left the plugin; the call's own bytes may be used again at once.
func TestCopy(t *testing.T) {
	o := &other{}
	e := env(t, o)
	broken := errors.New("broken")
	next := &plugintest.Next{Do: read}
	h := plugintest.New(t, Kind, e, `{service: next}`).Wrap(next)
	if err := pass(t, h, "m1", "x-a", "1", Header, "forged"); err != nil {
		t.Error(err)
	}
	waitFor(t, "a copy", func() bool { return counted(t, e, "ok") == "1" })
	next.Do = func(ctx context.Context, c *rpc.Call) error { _ = read(ctx, c); return broken }
	if err := pass(t, h, "m2"); err != broken { //nolint:errorlint // the very one
		t.Error(err)
	}
	waitFor(t, "a copy of a call that failed", func() bool { return counted(t, e, "ok") == "2" })
	if diff := cmp.Diff([]string{
		`/acme.v1.Orders/Get next id-1 "m1" x-a=1,x-inner=1,x-causeway-mirror=1`,
		`/acme.v1.Orders/Get next id-1 "m2" x-inner=1,x-causeway-mirror=1`,
	}, o.got); diff != "" {
		t.Error(diff)
	}
}

func TestCallsThatAreNotCopied(t *testing.T) {
	o := &other{}
	e := env(t, o)
	refused := rpc.Refuse(codes.PermissionDenied, "R", "m")
	next := &plugintest.Next{Do: func(context.Context, *rpc.Call) error { return refused }}
	p := plugintest.New(t, Kind, e, `{service: next}`)
	if err := pass(t, p.Wrap(next), "m"); err != error(refused) { //nolint:errorlint // the very one
		t.Error(err)
	}
	next.Do = read
	c := plugintest.Call("POST", "/")
	c.Method = &schema.Method{Name: "/acme.v1.Orders/Watch", Kind: schema.ServerStream}
	if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
		t.Error(err)
	}
	if err := pass(t, plugintest.New(t, Kind, e, `{service: next, percent: 0}`).Wrap(next), "m"); err != nil {
		t.Error(err)
	}
	if err := p.(interface{ Close() error }).Close(); err != nil { //nolint:forcetypeassert // it is, by the package
		t.Error(err)
	}
	if err := pass(t, p.Wrap(next), "m"); err != nil {
		t.Error(err)
	}
	if o.count() != 0 || counted(t, e, "stream") != "1" || counted(t, e, "dropped") != "1" || next.Calls != 4 {
		t.Errorf("%v, streams %s, dropped %s, calls %d", o.got, counted(t, e, "stream"), counted(t, e, "dropped"), next.Calls)
	}
}

// A service that never answers holds nothing up: so many copies are under way, so many wait, the others are dropped. Closing ends
// them.
func TestStuckService(t *testing.T) {
	o := &other{between: make(chan struct{}, 100), do: func(ctx context.Context, _ *rpc.Call) error { <-ctx.Done(); return ctx.Err() }}
	e := env(t, o)
	next := &plugintest.Next{Do: read}
	p := plugintest.New(t, Kind, e, `{service: next, concurrency: 2, queue: 3, timeout: 300s}`)
	h := p.Wrap(next)
	for range 2 {
		if err := pass(t, h, "m"); err != nil {
			t.Error(err)
		}
		<-o.between
	}
	for range 10 {
		if err := pass(t, h, "m"); err != nil {
			t.Error(err)
		}
	}
	if next.Calls != 12 || o.most != 2 || counted(t, e, "dropped") != "7" {
		t.Errorf("%d calls, %d copies at once, dropped %s", next.Calls, o.most, counted(t, e, "dropped"))
	}
	if err := p.(interface{ Close() error }).Close(); err != nil { //nolint:forcetypeassert // it is, by the package
		t.Error(err)
	}
	if got := counted(t, e, "dropped") + " " + counted(t, e, "error"); got != "10 2" || o.count() != 2 {
		t.Errorf("want 10 dropped and 2 failed, found %s of %d", got, o.count())
	}
	if m := p.(*mirror); m.held != 0 || m.senders != 0 { //nolint:forcetypeassert // it is, by the package
		t.Errorf("held %d bytes, %d senders", m.held, m.senders)
	}
}

func TestBytesAndTime(t *testing.T) {
	o := &other{between: make(chan struct{}, 100), do: func(ctx context.Context, _ *rpc.Call) error { <-ctx.Done(); return ctx.Err() }}
	e := env(t, o)
	h := plugintest.New(t, Kind, e, `{service: next, max_bytes: 10, timeout: 0.05s}`).Wrap(&plugintest.Next{Do: read})
	for _, m := range []string{"0123456789a", "0123456789", "0"} {
		if err := pass(t, h, m); err != nil {
			t.Error(err)
		}
	}
	if counted(t, e, "dropped") != "2" {
		t.Errorf("want what goes beyond 10 bytes dropped, found %s", counted(t, e, "dropped"))
	}
	waitFor(t, "the copy's time to be over", func() bool { return counted(t, e, "error") == "1" })
	waitFor(t, "room", func() bool { _ = pass(t, h, "0123456789"); return o.count() == 2 })
}

// A panic ends with its copy.
func TestPanic(t *testing.T) {
	o := &other{do: func(_ context.Context, c *rpc.Call) error {
		if c.Header.Has("x-panic") {
			panic("on purpose")
		}
		return nil
	}}
	e := env(t, o)
	var log bytes.Buffer
	e.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := plugintest.New(t, Kind, e, `{service: next, concurrency: 1}`)
	h := p.Wrap(&plugintest.Next{Do: read})
	for _, header := range [][]string{{"x-panic", "1"}, nil, {"x-panic", "1"}, nil} {
		if err := pass(t, h, "m", header...); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "all copies", func() bool { return counted(t, e, "ok") == "2" && counted(t, e, "error") == "2" })
	_ = p.(interface{ Close() error }).Close() //nolint:forcetypeassert // it is, by the package
	if n := strings.Count(log.String(), "panic in a copy of a call"); n != 2 {
		t.Errorf("want two panics logged, found %d: %s", n, log.String())
	}
}

func TestShare(t *testing.T) {
	o := &other{}
	e := env(t, o)
	m := plugintest.New(t, Kind, e, `{service: next, percent: 10, queue: 100000}`).(*mirror) //nolint:forcetypeassert // it is, by the package
	h := m.Wrap(&plugintest.Next{Do: read})
	for range 20_000 {
		if err := pass(t, h, ""); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the copies", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.senders == 0
	})
	if n := o.count(); n < 1790 || n > 2210 { // 10 % is off by 1 % once in a million times
		t.Errorf("want about 2000 copies, found %d", n)
	}
}

func TestUnmirroredAllocs(t *testing.T) {
	c := plugintest.Call("POST", "/")
	c.Body = &heldBody{[]byte("m")}
	plugintest.Allocs(t, 0, plugintest.New(t, Kind, env(t, &other{}), `{service: next, percent: 0}`).Wrap(&plugintest.Next{}), c)
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, env(b, &other{}), `{service: next}`).Wrap(&plugintest.Next{Do: func(_ context.Context, c *rpc.Call) error { c.Times.Body = time.Now(); return nil }})
	c, ctx := plugintest.Call("POST", "/", "x-a", "1"), b.Context()
	c.Body = &heldBody{make([]byte, 200)}
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
