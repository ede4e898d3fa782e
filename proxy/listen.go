package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// listener is one address that callers reach, with the engine that serves it. It outlives snapshots.
type listener struct {
	conf   *configv1.Listener
	ln     net.Listener
	server wire.Server
	tls    atomic.Pointer[tls.Config] // what handshakes use; a reload swaps it
	pair   *certs.KeyPair
	ca     string // fingerprint of the callers' authorities
	done   chan struct{}
	panics int64        // of the engine's, as far as they are counted
	inlet  *inletSpoken // nil: HTTP
}

// inletSpoken is what is spoken on a listener that does not speak HTTP. New options hold for connections made from then on,
// and what they say of names for all.
type inletSpoken struct {
	entry    entry
	protocol atomic.Pointer[wire.Protocol]
	former   atomic.Int64 // panics of those that options have replaced
}

// NewConn implements wire.Protocol.
func (s *inletSpoken) NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn {
	return (*s.protocol.Load()).NewConn(c, read, state, h)
}

// Panics is how many panics the protocol has caught.
func (s *inletSpoken) Panics() int64 { return s.former.Load() + panicsOf(*s.protocol.Load()) }

func panicsOf(p wire.Protocol) int64 {
	if c, ok := p.(interface{ Panics() int64 }); ok {
		return c.Panics()
	}
	return 0
}

// speaks makes what a listener speaks; nil: HTTP.
func (g *Gateway) speaks(s *inletSpoken, conf *configv1.Listener) (wire.Protocol, error) {
	in := g.opts.Standard.inlet(conf)
	options, err := settings(in, conf.GetOptions())
	if err != nil {
		return nil, err
	}
	return in.New(&s.entry, options, rpcadapters.Limits{Budget: g.budget})
}

// listen opens the addresses of doc that are not open yet and finds those that doc does not have any more. On an error
// nothing stays open that was not. mu is held.
func (g *Gateway) listen(doc *config.Document) (opened, gone []*listener, err error) {
	var faults config.Faults
	var kept []*listener
	swaps := map[*listener]*configv1.Listener{}
	for i, conf := range doc.Config.GetListen() {
		at := fmt.Sprintf("listen[%d]", i)
		l := g.listening(conf.GetAddress(), kept...)
		switch {
		case l == nil:
			l, err := g.open(conf)
			if err != nil {
				faults = append(faults, doc.Fault(at, "%s", err).
					WithFix("end what listens there; an address that overlaps one of this gateway's own is free after a restart"))
				continue
			}
			opened = append(opened, l)
			kept = append(kept, l)
			continue
		case (l.conf.GetTls() == nil) != (conf.GetTls() == nil):
			faults = append(faults, doc.Fault(at, "%s serves already, and TLS cannot be switched on or off there while it does", conf.GetAddress()).
				WithFix("restart the gateway, or give the listener another address"))
			continue
		case l.conf.GetProtocol() != conf.GetProtocol():
			faults = append(faults, doc.Fault(at, "%s serves already, and another protocol cannot be spoken there while it does", conf.GetAddress()).
				WithFix("restart the gateway, or give the listener another address"))
			continue
		case !proto.Equal(l.conf, conf), l.ca != certs.Fingerprint(conf.GetTls().GetClientCaFile()):
			swaps[l] = conf
		}
		kept = append(kept, l)
	}
	type fresh struct {
		config   *tls.Config
		pair     *certs.KeyPair
		protocol wire.Protocol
	}
	renewed := map[*listener]fresh{}
	for l, conf := range swaps {
		var f fresh
		var err error
		if conf.GetTls() != nil {
			f.config, f.pair, err = serverTLS(conf.GetTls(), g.log)
		}
		if err == nil && l.inlet != nil {
			f.protocol, err = g.speaks(l.inlet, conf)
		}
		if err != nil {
			faults = append(faults, doc.Fault("listen", "%s: %s", conf.GetAddress(), err))
			continue
		}
		renewed[l] = f
	}
	if len(faults) > 0 {
		for _, l := range opened {
			_ = l.ln.Close() // it never served
		}
		return nil, nil, faults
	}
	for l, f := range renewed {
		l.conf, l.pair, l.ca = swaps[l], f.pair, certs.Fingerprint(swaps[l].GetTls().GetClientCaFile())
		l.tls.Store(f.config)
		if l.inlet != nil {
			l.inlet.former.Add(panicsOf(*l.inlet.protocol.Swap(&f.protocol)))
			l.inlet.entry.turn(inletKey(swaps[l]))
		}
	}
	for _, l := range g.listeners {
		if !slices.Contains(kept, l) {
			gone = append(gone, l)
		}
	}
	g.listeners = kept
	return opened, gone, nil
}

// listening finds the listener of an address that is not among kept: several may have one whose port the system chooses.
func (g *Gateway) listening(address string, kept ...*listener) *listener {
	for _, l := range g.listeners {
		if l.conf.GetAddress() == address && !slices.Contains(kept, l) {
			return l
		}
	}
	return nil
}

func serverTLS(t *configv1.ServerTLS, log *slog.Logger) (*tls.Config, *certs.KeyPair, error) {
	return certs.Server{Cert: t.GetCertFile(), Key: t.GetKeyFile(), ClientCA: t.GetClientCaFile()}.Config(certificateLog(t.GetCertFile(), log))
}

// certificateLog says what became of a certificate that changed.
func certificateLog(file string, log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("the changed certificate is refused; the former one serves on", "file", file, "error", err)
			return
		}
		log.Info("certificate in force", "file", file)
	}
}

// open binds an address; nothing is accepted before serve.
func (g *Gateway) open(conf *configv1.Listener) (*listener, error) {
	l := &listener{conf: conf, done: make(chan struct{})}
	var base *tls.Config
	if conf.GetTls() != nil {
		c, pair, err := serverTLS(conf.GetTls(), g.log)
		if err != nil {
			return nil, err
		}
		l.pair, l.ca = pair, certs.Fingerprint(conf.GetTls().GetClientCaFile())
		l.tls.Store(c)
		base = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.tls.Load(), nil },
		}
	}
	if g.opts.Standard.inlet(conf) != nil {
		l.inlet = &inletSpoken{}
		l.inlet.entry.gateway = g
		l.inlet.entry.turn(inletKey(conf))
		p, err := g.speaks(l.inlet, conf)
		if err != nil {
			return nil, err
		}
		l.inlet.protocol.Store(&p)
	}
	ln, err := net.Listen("tcp", conf.GetAddress()) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, err
	}
	l.ln = ln
	if l.inlet != nil {
		l.server = g.opts.Standard.Only(g, l.inlet, base, g.log)
	} else {
		l.server = g.opts.Standard.Engine(g, base, g.log)
	}
	return l, nil
}

// serve starts accepting.
func (g *Gateway) serve(l *listener) {
	if g.draining.Load() {
		l.server.Drain()
	}
	go func() {
		defer close(l.done)
		defer func() {
			if r := recover(); r != nil {
				g.panics.Add(1)
				g.log.Error("panic in a listener", "listener", l.conf.GetAddress(), "panic", r, "stack", string(debug.Stack()))
			}
		}()
		if err := l.server.Serve(l.ln); err != nil {
			g.log.Error("listener ended", "listener", l.conf.GetAddress(), "error", err)
		}
	}()
}

// Addresses are the addresses that callers reach, as bound.
func (g *Gateway) Addresses() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]string, len(g.listeners))
	for i, l := range g.listeners {
		out[i] = l.ln.Addr().String()
	}
	return out
}

// Stop says how long the steps of a graceful stop may take.
type Stop struct {
	// Delay is how long the gateway goes on as before after it has begun to say that it is not ready, so that balancers
	// in front of it stop sending.
	Delay time.Duration
	// Grace is how long connections and calls in flight may take to end after that.
	Grace time.Duration
}

// settle is how long answers ask their clients to leave before the listener closes: what connects meanwhile is served,
// so that nothing is lost in the queue of connections not yet accepted.
const settle = 500 * time.Millisecond

// drainPoll is how often open connections are counted while they leave.
const drainPoll = 20 * time.Millisecond

// removedGrace is how long calls on a listener that a reload took away may take.
const removedGrace = 30 * time.Second

// leaveListeners drains listeners that the configuration does not have any more, in the background. mu is held.
func (g *Gateway) leaveListeners(gone []*listener) {
	g.removed = append(g.removed, gone...)
	for _, l := range gone {
		g.drains.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					g.panics.Add(1)
					g.log.Error("panic while a listener was drained", "listener", l.conf.GetAddress(), "panic", r)
				}
			}()
			g.drain(context.Background(), []*listener{l}, Stop{Grace: removedGrace}, func() {})
			g.mu.Lock()
			defer g.mu.Unlock()
			g.removed = slices.DeleteFunc(g.removed, func(r *listener) bool { return r == l })
		})
	}
}

// Shutdown stops gracefully: it says that it is not ready, goes on for the delay, asks clients to leave with their next
// answer, closes the listeners but not the connections, and waits until these are gone or the grace is over. Shortly before
// that the streams still open are told so in their own form, and then what is left is cut. When hurry ends, the remaining
// waits are cut short.
func (g *Gateway) Shutdown(hurry context.Context, stop Stop) {
	g.draining.Store(true)
	wait(hurry, stop.Delay)
	g.end()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed = true
	listeners := slices.Concat(g.listeners, g.removed)
	g.mu.Unlock()
	g.drain(hurry, listeners, stop, g.streams.endAll)
	g.drains.Wait()
	close(g.streams.quit)
	g.memory.close()
	if snap := g.snap.Load(); snap != nil {
		g.leaving.retire(snap, nil)
	}
	if !g.leaving.wait(hurry) {
		g.log.Error("calls, services, plugins or registries do not end in time; the gateway ends all the same")
	}
	g.probers.Close()
	g.exports.Close() // after the plugins, which have last words
}

// lastWords is how long before the end of the grace streams are told that it is over: a fifth of it, and this at most.
const lastWords = time.Second

// drain has the callers of listeners leave. endStreams ends streams with a status.
func (g *Gateway) drain(hurry context.Context, listeners []*listener, stop Stop, endStreams func()) {
	for _, l := range listeners {
		l.server.Drain()
	}
	end := time.Now().Add(stop.Grace)
	if open(listeners) > 0 {
		wait(hurry, min(stop.Grace, settle))
	}
	for _, l := range listeners {
		_ = l.ln.Close() // closed twice at worst
	}
	tail := min(lastWords, stop.Grace/5)
	g.waitGone(hurry, listeners, time.Until(end)-tail)
	endStreams()
	g.waitGone(hurry, listeners, min(tail, time.Until(end)))
	ctx, cancel := context.WithDeadline(hurry, end)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() {
			if err := l.server.Shutdown(ctx); err != nil {
				g.log.Warn("calls in flight were cut", "listener", l.conf.GetAddress(), "error", err)
			}
			<-l.done
		})
	}
	wg.Wait()
}

// waitGone waits until no connection is open, the time is over, or hurry ends.
func (g *Gateway) waitGone(hurry context.Context, listeners []*listener, atMost time.Duration) {
	end := time.Now().Add(atMost)
	for time.Now().Before(end) && hurry.Err() == nil {
		if open(listeners) == 0 {
			return
		}
		wait(hurry, drainPoll)
	}
}

func open(listeners []*listener) (conns int64) {
	for _, l := range listeners {
		conns += l.server.Conns()
	}
	return conns
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
