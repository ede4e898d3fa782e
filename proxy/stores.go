package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// openStore is a store with what it was opened for.
type openStore struct {
	Store
	digest string
}

// stores opens the stores, or takes over those that are unchanged.
func (b *builder) stores() {
	for i, conf := range b.doc.Config.GetStores() {
		at := fmt.Sprintf("stores[%d].redis", i)
		raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(conf.GetRedis()) // strings that were read as UTF-8
		digest := string(raw) + certs.Fingerprint(conf.GetRedis().GetTls().GetCaFile())
		if b.prev != nil {
			if old := b.prev.stores[conf.GetName()]; old != nil && old.digest == digest {
				b.snap.stores[conf.GetName()] = old
				continue
			}
		}
		if b.std.Redis == nil {
			b.fault(at, "this gateway has no Redis")
			continue
		}
		st, err := b.openRedis(conf.GetName(), conf.GetRedis())
		if err != nil {
			b.fault(at, "store %q: %s", conf.GetName(), err)
			continue
		}
		b.made = append(b.made, func() { _ = st.Close() }) // the snapshot is refused for a reason that is told
		b.snap.stores[conf.GetName()] = &openStore{st, digest}
	}
}

func (b *builder) openRedis(name string, conf *configv1.Redis) (Store, error) {
	address := ""
	if len(conf.GetAddresses()) > 0 {
		address = conf.GetAddresses()[0]
	}
	tlsConfig, err := clientTLS(conf.GetTls(), address, b.log)
	if err != nil {
		return nil, err
	}
	return b.std.Redis(name, conf, tlsConfig, b.env.Meter, b.log)
}

// wants tells that a snapshot has the stores of these names, or what is wrong.
func (s *Snapshot) wants(names ...string) error {
	for _, name := range names {
		if s.stores[name] == nil {
			return fmt.Errorf("there is no store %q%s: add it under `stores`", name, schema.DidYouMean(name, slices.Sorted(maps.Keys(s.stores))))
		}
	}
	return nil
}

// lent is a store that a plugin has. It finds the store anew for each command: the plugin may outlive its snapshot, and the
// store that this had.
type lent struct {
	gateway *Gateway
	name    string
}

// Run implements plugin.Store.
func (l *lent) Run(ctx context.Context, script *plugin.Script, keys []string, args ...any) (any, error) {
	snap := l.gateway.snap.Load()
	if snap == nil || snap.stores[l.name] == nil {
		return nil, fmt.Errorf("store %q is not open", l.name)
	}
	return snap.stores[l.name].Run(ctx, script, keys, args...)
}

// fetcher gives plugins what makes HTTP requests.
func (b *builder) fetcher() {
	var allow []netip.Prefix
	for _, n := range b.doc.Config.GetOutbound().GetAllow() {
		if p, err := config.Network(n); err == nil { // it was checked
			allow = append(allow, p)
		}
	}
	if b.std.Fetch == nil {
		return
	}
	b.snap.outbound = allow
	if b.prev != nil && b.prev.fetch != nil && slices.Equal(b.prev.outbound, allow) {
		b.snap.fetch = b.prev.fetch // with its connections
	} else {
		b.snap.fetch = b.std.Fetch(allow)
	}
	b.env.Fetch = b.fetching(b.snap.fetch, b.snap.Revision)
}

// fetching makes requests by what the snapshot in force allows: a plugin may outlive the snapshot that it was made for, and
// begins before that is in force.
type fetching struct {
	gateway  *Gateway
	first    plugin.Fetcher
	revision int64 // of the first's snapshot
}

// Fetch implements plugin.Fetcher.
func (f *fetching) Fetch(ctx context.Context, r *plugin.FetchRequest) (*plugin.FetchResponse, error) {
	if snap := f.gateway.snap.Load(); snap != nil && snap.Revision >= f.revision {
		return snap.fetch.Fetch(ctx, r)
	}
	return f.first.Fetch(ctx, r)
}

// called is a service that a plugin calls. It finds the service anew for each call: the plugin may outlive its snapshot.
type called struct {
	gateway *Gateway
	name    string
}

// Unary implements plugin.Service.
func (s *called) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	snap := s.gateway.snap.Load()
	if snap == nil || snap.services[s.name] == nil {
		return rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "no instance of the service is available")
	}
	sv := snap.services[s.name]
	if sv.plans != nil {
		c.Plan = sv.plans[c.Method]
	}
	b := sv.up.Breaker()
	if b == nil {
		return sv.answer(ctx, c, req, out)
	}
	pass, err := b.Enter(ctx)
	if err != nil {
		return refused(ctx, b, err)
	}
	counted, failed := true, true // by a panic
	defer func() { b.Leave(pass, counted, failed) }()
	start := time.Now()
	err = sv.answer(ctx, c, req, out)
	counted, failed = blamed(err, time.Since(start))
	return err
}

// answer asks instances of the service until one has run what a plugin asks, or may have.
func (sv *service) answer(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	t := try{to: sv}
	t.info.Subset = -1
	sv.up.Budget().Deposit()
	for {
		err := t.ask(ctx, c, req, out)
		if err == nil || len(t.info.Tried) == 0 || len(t.info.Tried) >= mostAsked || ctx.Err() != nil || !notExecuted(err) {
			return err
		}
		if !sv.up.Budget().Withdraw() {
			sv.retried.refused.Add(1)
			return err
		}
		sv.retried.retried.Add(1)
		out.Reset()
	}
}

// mostAsked is how many instances are asked of which none has run what a plugin asks.
const mostAsked = 3

// ask calls one instance.
func (t *try) ask(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	t.start = time.Now()
	node, err := t.pick(ctx, c)
	if err != nil {
		return err
	}
	defer node.Done()
	if err = node.Transport.Unary(ctx, c, req, out); err != nil {
		t.info.Tried = append(t.info.Tried, node)
	}
	t.to.up.Report(node, err, time.Since(t.start))
	return err
}

// nobody ends the chain of requests without a route, which nothing enters.
type nobody struct{}

// Handle implements rpc.Handler.
func (nobody) Handle(context.Context, *rpc.Call) error {
	return rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes the call")
}
