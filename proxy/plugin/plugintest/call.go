package plugintest

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// New makes a plugin of its keys in YAML, in flow style, and closes it when the test ends.
func New(t testing.TB, kind plugin.Kind, env plugin.Env, text string) plugin.Plugin {
	t.Helper()
	confs, err := Parse(kind, "plugins: [{name: "+kind.Name+", config: "+text+"}]")
	if err != nil || len(confs) != 1 {
		t.Fatal(err, len(confs))
	}
	p, err := kind.New(confs[0], env)
	if err != nil {
		t.Fatal(err)
	}
	Close(t, p)
	return p
}

// Next is the handler behind a plugin: it counts the calls that came through.
type Next struct {
	Calls int
	Do    func(ctx context.Context, c *rpc.Call) error // nil: nothing
}

// Handle implements rpc.Handler.
func (n *Next) Handle(ctx context.Context, c *rpc.Call) error {
	n.Calls++
	if n.Do == nil {
		return nil
	}
	return n.Do(ctx, c)
}

// Call is a unary call by HTTP from 192.0.2.1 with headers in pairs of name (lower case) and value, which are its metadata
// too.
func Call(method, path string, header ...string) *rpc.Call {
	c := &rpc.Call{
		Method: &schema.Method{Name: "/acme.v1.Orders/Get"}, Protocol: "rest", Route: "orders", Service: "orders", ID: "id-1",
		Peer: netip.MustParseAddrPort("192.0.2.1:4711"),
		HTTP: &rpc.HTTP{Method: method, Scheme: "http", Host: "api.example.com", Path: path},
	}
	for i := 0; i+1 < len(header); i += 2 {
		c.HTTP.Header.Add(header[i], header[i+1])
		c.Header.Add(header[i], header[i+1])
	}
	return c
}

// Refused fails the test unless err is a refusal of the gateway's own with this code, status and reason.
func Refused(t testing.TB, err error, code codes.Code, status int, reason string) rpc.Error {
	t.Helper()
	e, ok := errors.AsType[*rpc.Error](err)
	if !ok || e.Code != code || e.Status != status || e.Reason != reason || e.Class != rpc.Framework || e.Executed || e.Message == "" {
		t.Fatalf("want %v %d %s, found %+v (%v)", code, status, reason, e, err)
	}
	return *e
}

// Allocs fails the test where a handler takes a call with more than most allocations.
func Allocs(t *testing.T, most float64, h rpc.Handler, c *rpc.Call) {
	t.Helper()
	if raced {
		t.Skip("the race detector allocates")
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(200, func() { _ = h.Handle(ctx, c) }); n > most {
		t.Errorf("want at most %v allocations, found %v", most, n)
	}
}
