package proxy

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// pressure is how near the process is to the memory that it may use.
type pressure int32

const (
	relaxed   pressure = iota
	closeIdle          // idle connections are closed
	keepNone           // and every answer asks its caller to leave
	refuse             // and calls are refused
)

// The parts of the memory at which pressure begins. It ends a little lower, so that it does not come and go with each
// collection.
var marks = [...]float64{closeIdle: 0.85, keepNone: 0.92, refuse: 0.95}

const (
	ease       = 0.02
	memoryTick = 100 * time.Millisecond
)

// sheds is a server that can let go of connections while it serves on.
type sheds interface {
	// CloseIdle closes the connections without a call.
	CloseIdle()
	// Hurry says whether every answer asks its client to leave.
	Hurry(on bool)
}

// memory watches what the process uses, while there is a limit.
type memory struct {
	limit  atomic.Int64 // 0: none
	now    atomic.Int32 // the pressure
	used   func() uint64
	tune   func(limit int64) // tells the collector; may be nil
	own    int64             // the limit where the configuration says none
	shed   func(p pressure)  // acts on pressure, each time that it is looked at, and once when it is over
	log    *slog.Logger
	gauge  *telemetry.Gauge
	denied *telemetry.Counter

	mu   sync.Mutex
	stop chan struct{} // nil: nobody watches
	done sync.WaitGroup
}

func newMemory(meter *telemetry.Meter, log *slog.Logger, own int64, tune func(int64), shed func(pressure)) (*memory, error) {
	m := &memory{used: usedMemory, tune: tune, own: own, shed: shed, log: log}
	gauge, err := meter.Gauge("causeway_memory_pressure", "", "0; 1: idle connections are closed, 2: no connection is kept, 3: calls are refused.")
	denied, err2 := meter.Counter("causeway_memory_refused_total", "", "Calls refused for want of memory.")
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	m.gauge, m.denied = gauge.With(), denied.With()
	m.gauge.Set(0)
	return m, nil
}

// usedMemory is what the collector counts against its own limit: what the runtime has from the system and did not give back.
func usedMemory() uint64 {
	samples := [...]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples[:])
	if samples[0].Value.Kind() != metrics.KindUint64 || samples[1].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// setLimit changes the limit to what a configuration says; 0: nothing.
func (m *memory) setLimit(configured int64) {
	if configured == 0 {
		configured = m.own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit.Swap(configured) == configured {
		return
	}
	if m.tune != nil {
		m.tune(configured)
	}
	switch {
	case configured > 0 && m.stop == nil:
		m.stop = make(chan struct{})
		stop := m.stop
		m.done.Go(func() { m.watch(stop) })
	case configured == 0 && m.stop != nil:
		close(m.stop)
		m.stop = nil
	}
}

// close ends the watch.
func (m *memory) close() {
	m.mu.Lock()
	if m.stop != nil {
		close(m.stop)
		m.stop = nil
	}
	m.mu.Unlock()
	m.done.Wait()
}

func (m *memory) watch(stop <-chan struct{}) {
	t := time.NewTicker(memoryTick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			m.look()
		case <-stop:
			m.enter(relaxed)
			m.shed(relaxed)
			return
		}
	}
}

// look looks at the memory once; a panic there ends nothing else.
func (m *memory) look() {
	defer func() {
		if r := recover(); r != nil {
			m.log.Error("panic while memory was looked at", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	limit := m.limit.Load()
	if limit <= 0 {
		return
	}
	part := float64(m.used()) / float64(limit)
	was := pressure(m.now.Load())
	p := relaxed
	for mark := closeIdle; mark <= refuse; mark++ {
		if part >= marks[mark] || mark <= was && part >= marks[mark]-ease {
			p = mark
		}
	}
	m.enter(p)
	if p > relaxed || was > relaxed {
		m.shed(p)
	}
}

// enter notes the pressure.
func (m *memory) enter(p pressure) {
	if was := pressure(m.now.Swap(int32(p))); was != p {
		m.gauge.Set(int64(p))
		m.log.Warn("memory", "pressure", [...]string{"none", "idle connections are closed", "no connection is kept", "calls are refused"}[p],
			"used", m.used(), "limit", m.limit.Load())
	}
}

// refusal is the error of calls while there is no memory for them; nil: there is.
func (m *memory) refusal() *rpc.Error {
	if pressure(m.now.Load()) < refuse {
		return nil
	}
	m.denied.Inc()
	e := rpc.Refuse(codes.Unavailable, "OUT_OF_MEMORY", "the gateway has no memory for the call")
	e.Header.Add("retry-after", "1")
	return e
}

// shed lets go of connections on all listeners.
func (g *Gateway) shed(p pressure) {
	g.mu.Lock()
	listeners := append(append([]*listener{}, g.listeners...), g.removed...)
	g.mu.Unlock()
	for _, l := range listeners {
		s, ok := l.server.(sheds)
		if !ok {
			continue
		}
		s.Hurry(p >= keepNone)
		if p > relaxed {
			s.CloseIdle()
		}
	}
}
