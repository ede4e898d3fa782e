package plugin_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// idle is a plugin that does nothing.
type idle struct{}

type idleHandler struct{ next rpc.Handler }

func (idle) Wrap(next rpc.Handler) rpc.Handler { return &idleHandler{next} }

func (h *idleHandler) Handle(ctx context.Context, c *rpc.Call) error { return h.next.Handle(ctx, c) }

// last is the end of a chain.
type last struct{ err error }

func (l *last) Handle(context.Context, *rpc.Call) error { return l.err }

// chain wraps end as the gateway does: the first plugin becomes the outermost.
func chain(end rpc.Handler, plugins ...plugin.Plugin) rpc.Handler {
	for _, p := range slices.Backward(plugins) {
		end = p.Wrap(end)
	}
	return end
}

func idleChain() rpc.Handler {
	return chain(&last{}, slices.Repeat([]plugin.Plugin{idle{}}, 10)...)
}

// tracer notes when its call goes in and comes out.
type tracer struct {
	name string
	to   *[]string
}

type tracerHandler struct {
	tracer
	next rpc.Handler
}

func (t tracer) Wrap(next rpc.Handler) rpc.Handler { return &tracerHandler{t, next} }

func (h *tracerHandler) Handle(ctx context.Context, c *rpc.Call) error {
	*h.to = append(*h.to, h.name+" in")
	err := h.next.Handle(ctx, c)
	*h.to = append(*h.to, h.name+" out")
	return err
}

func TestChainOrder(t *testing.T) {
	var got []string
	fault := errors.New("refused")
	h := chain(&last{fault}, tracer{"a", &got}, tracer{"b", &got})
	if err := h.Handle(t.Context(), &rpc.Call{}); !errors.Is(err, fault) {
		t.Errorf("error %v, want %v", err, fault)
	}
	if diff := cmp.Diff([]string{"a in", "b in", "b out", "a out"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestChainAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h, ctx, c := idleChain(), t.Context(), &rpc.Call{}
	if n := testing.AllocsPerRun(100, func() {
		if err := h.Handle(ctx, c); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkChain10 is ten plugins that do nothing: less than 100 ns.
func BenchmarkChain10(b *testing.B) {
	h, ctx, c := idleChain(), b.Context(), &rpc.Call{}
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
