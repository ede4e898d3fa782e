package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// Options are what a gateway is made with.
type Options struct {
	Standard *Standard
	// Load reads the configuration anew; it is called at the start and for each reload.
	Load func() (*config.Document, error)
	// Memory is how many bytes the process may use where the configuration does not say; 0: there is no limit.
	Memory int64
	// TuneMemory tells the collector of a limit that is in force from now on, 0: of none; nil: nobody is told.
	TuneMemory func(limit int64)
	// Store keeps pushed schemas; nil: pushes are refused.
	Store *source.Store
	// Shelf keeps what registries knew last, for a start without them; nil: nothing is kept.
	Shelf upstream.Shelf
	Meter *telemetry.Meter
	Sinks *telemetry.Sinks
	Log   *slog.Logger
	// Version is what is sent to a collector as the gateway's.
	Version string
}

// Gateway serves calls by its current snapshot. Readers never lock; changes are made one at a time.
type Gateway struct {
	opts     Options
	faces    []rpcadapters.Face
	named    []bool // of each face: its requests name the method by their path
	scripted scripted
	snap     atomic.Pointer[Snapshot]
	log      *slog.Logger
	panics   counter
	budget   *rpc.Budget
	streams  *streams
	conns    connections
	memory   *memory
	gauges   gauges
	states   states
	exports  *telemetry.Exports
	probers  *health.Pool
	leaving  retirements

	draining atomic.Bool
	life     context.Context // ends with Shutdown: no change outlives it
	end      context.CancelFunc

	change sync.Mutex // one change at a time; it may take as long as a registry or a live server takes to answer

	mu        sync.Mutex // short: guards what follows
	listeners []*listener
	removed   []*listener      // those that a reload took away, while they drain
	attempted *config.Document // the last document loaded, valid or not: its files are watched
	last      outcome
	instances map[instanceOf]bool // those that the metrics have
	closed    bool

	drains sync.WaitGroup // of removed listeners
}

// outcome is how the last change went.
type outcome struct {
	at  time.Time
	err error
}

// gauges are the gateway's own metrics.
type gauges struct {
	reloads     *telemetry.CounterVec
	success     *telemetry.Gauge
	revision    *telemetry.Gauge
	connections *telemetry.GaugeVec
	accepted    *telemetry.CounterVec
	translation *telemetry.Gauge
	streams     *telemetry.Gauge
	inFlight    *telemetry.GaugeVec
	instances   *telemetry.GaugeVec
	services    serviceGauges
}

// New makes a gateway that serves nothing yet: Start loads its configuration.
func New(o Options) (*Gateway, error) {
	g := &Gateway{opts: o, faces: o.Standard.Faces, scripted: scriptedOf(o.Standard.Faces), log: o.Log, budget: rpc.NewBudget(math.MaxInt64)}
	g.streams = &streams{log: o.Log, quit: make(chan struct{})}
	for _, f := range g.faces {
		_, named := f.(rpcadapters.Named)
		g.named = append(g.named, named)
	}
	g.life, g.end = context.WithCancel(context.Background())
	exports, err := telemetry.NewExports(o.Meter, o.Log, g.Sample)
	if err != nil {
		return nil, err
	}
	g.exports = exports
	g.probers = health.NewPool(o.Log)
	o.Sinks.Collect(exports.Lines())
	panics, err := o.Meter.Counter("causeway_panics_total", "", "Panics that were caught; each is a defect to report.")
	if err != nil {
		return nil, err
	}
	g.panics = panics.With()
	g.leaving.log, g.leaving.panics = o.Log, g.panics
	refused, err := o.Meter.Counter("causeway_connections_refused_total", "", "Connections closed at once because of limits.connections.")
	if err != nil {
		return nil, err
	}
	g.conns.refused = refused.With()
	if g.memory, err = newMemory(o.Meter, o.Log, o.Memory, o.TuneMemory, g.shed); err != nil {
		return nil, err
	}
	var errs [9]error
	g.gauges.reloads, errs[0] = o.Meter.Counter("causeway_config_reloads_total", "", "Configurations tried, by result.", "result")
	success, err := o.Meter.Gauge("causeway_config_last_reload_success", "", "1 when the last configuration tried is in force.")
	errs[1] = err
	revision, err := o.Meter.Gauge("causeway_config_revision", "", "Number of the snapshot in force, counted from the start of the process.")
	errs[2] = err
	g.gauges.connections, errs[3] = o.Meter.Gauge("causeway_connections", "", "Open connections of callers.", "listener")
	g.gauges.accepted, errs[4] = o.Meter.Counter("causeway_connections_accepted_total", "", "Connections of callers since the start.", "listener")
	translation, err := o.Meter.Gauge("causeway_translation_bytes", "By", "Bytes of bodies and messages that are being received and translated.")
	errs[5] = err
	streaming, err := o.Meter.Gauge("causeway_streams", "", "Streaming calls in flight.")
	errs[6] = err
	g.gauges.inFlight, errs[7] = o.Meter.Gauge("causeway_requests_in_flight", "", "Calls now.", "route")
	g.gauges.instances, errs[8] = o.Meter.Gauge("causeway_service_instance_up", "", "1 for each instance that calls are sent to, 0 for those that are known and not used.", "service", "node")
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if g.gauges.services, err = newServiceGauges(o.Meter); err != nil {
		return nil, err
	}
	g.gauges.success, g.gauges.revision, g.gauges.translation, g.gauges.streams = success.With(), revision.With(), translation.With(), streaming.With()
	return g, nil
}

// Reload loads the configuration and puts it into force whole, or changes nothing and says why.
func (g *Gateway) Reload(ctx context.Context) error {
	g.change.Lock()
	defer g.change.Unlock()
	doc, err := g.opts.Load()
	if doc != nil {
		g.mu.Lock()
		g.attempted = doc
		g.mu.Unlock()
	}
	if err == nil {
		err = g.apply(ctx, doc)
	}
	g.report(err)
	return err
}

// report keeps how a change went, for the log, the metrics and readyz.
func (g *Gateway) report(err error) {
	g.mu.Lock()
	g.last = outcome{at: time.Now(), err: err}
	g.mu.Unlock()
	if err != nil {
		g.gauges.reloads.With("refused").Add(1)
		g.gauges.success.Set(0)
		return
	}
	g.gauges.reloads.With("applied").Add(1)
	g.gauges.success.Set(1)
}

// apply builds doc and swaps it in. change is held.
func (g *Gateway) apply(ctx context.Context, doc *config.Document) error {
	next, err := g.build(ctx, doc, nil)
	if err != nil {
		return err
	}
	return g.install(next)
}

// build makes the next snapshot, with its services knowing their instances. It ends with ctx, and with the gateway. change
// is held; the snapshot goes to install or discard.
func (g *Gateway) build(ctx context.Context, doc *config.Document, candidates map[string]*source.Set) (*Snapshot, error) {
	if g.life.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	b := g.builder(doc, g.snap.Load(), candidates)
	next, err := b.build(ctx)
	b.prev = nil // what was made may hold the builder for long
	if err != nil {
		return nil, err
	}
	g.awaitInstances(ctx, next)
	return next, nil
}

// discard lets go of a snapshot that was built and not installed. change is held.
func (g *Gateway) discard(next *Snapshot) { g.leaving.retire(next, g.snap.Load()) }

// install swaps a snapshot in and sends the former one on its way. On an error it is discarded. change is held.
func (g *Gateway) install(next *Snapshot) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		g.discard(next)
		return ErrClosed
	}
	prev := g.snap.Load()
	opened, gone, err := g.listen(next.Doc)
	if err != nil {
		g.discard(next)
		return err
	}
	limits := next.Doc.Config.GetLimits()
	g.budget.SetLimit(limits.GetTranslationBytes())
	g.conns.limit.Store(connectionLimit(limits.GetConnections(), files(), g.log))
	g.streams.limit.Store(limits.GetStreams())
	g.memory.setLimit(limits.GetMemoryBytes())
	g.snap.Store(next)
	g.gauges.revision.Set(next.Revision)
	g.keepSeries(next)
	g.exports.Use(next.export.get())
	for _, w := range next.warnings {
		g.log.Warn("the configuration has something that is hardly meant so", "at", w.Summary(), "fix", w.Fix)
	}
	for _, l := range opened {
		g.serve(l)
	}
	if prev != nil {
		g.leaving.retire(prev, next)
	}
	g.leaveListeners(gone)
	return nil
}

// knowTime is how long a new snapshot waits for its services to learn their first instances before it is swapped in all
// the same: a registry that does not answer must not hold back everything else.
const knowTime = 3 * time.Second

// awaitInstances waits until every service of next knows its instances.
func (g *Gateway) awaitInstances(ctx context.Context, next *Snapshot) {
	ctx, cancel := context.WithTimeout(ctx, knowTime)
	defer cancel()
	for _, sv := range next.services {
		select {
		case <-sv.up.Ready(): // it is not told of while it is ready, also when the time is over
			continue
		default:
		}
		select {
		case <-sv.up.Ready():
		case <-ctx.Done():
			g.log.Warn("a service does not know its instances so far", "service", sv.name)
		}
	}
}

// keepSeries lets go of the metrics of routes, services and methods that next does not have.
func (g *Gateway) keepSeries(next *Snapshot) {
	routes, methods := map[string]bool{}, map[string]bool{}
	for _, p := range next.targets {
		routes[p.route.Route], methods[p.rule.Method.Name[1:]] = true, true
	}
	g.opts.Meter.Keep("route", func(v string) bool { return routes[v] })
	g.opts.Meter.Keep("service", func(v string) bool { return next.services[v] != nil }) // plugins send calls to others than the routes'
	g.opts.Meter.Keep("rpc_method", func(v string) bool { return methods[v] })
	g.opts.Meter.Keep("consumer", func(v string) bool { return next.consumers[v] != nil })
	g.opts.Meter.Keep("store", func(v string) bool { return next.stores[v] != nil })
	g.opts.Meter.Keep("listener", func(v string) bool { return g.listening(v) != nil })
}

func (g *Gateway) builder(doc *config.Document, prev *Snapshot, candidates map[string]*source.Set) *builder {
	return &builder{
		std:  g.opts.Standard,
		doc:  doc,
		prev: prev,
		env: plugin.Env{
			Meter:    g.opts.Meter,
			Now:      time.Now,
			Open:     func(output string, r telemetry.Rotation) (io.WriteCloser, error) { return g.opts.Sinks.Open(output, r) },
			Service:  func(name string) plugin.Service { return &called{g, name} },
			Consumer: g.consumer,
			Spans:    g.exports.Spans(),
		},
		equal:      map[string]int{},
		misplaced:  map[*member]bool{},
		bared:      map[*member]bool{},
		states:     &g.states,
		fetching:   func(first plugin.Fetcher, revision int64) plugin.Fetcher { return &fetching{g, first, revision} },
		lend:       func(store string) plugin.Store { return &lent{g, store} },
		store:      g.opts.Store,
		candidates: candidates,
		panics:     g.panics,
		budget:     g.budget,
		streams:    g.streams,
		exports:    g.exports,
		probers:    g.probers,
		shelf:      g.opts.Shelf,
		retries:    g.gauges.services.retriesOf,
		version:    g.opts.Version,
		current:    g.catalog,
		log:        g.log,
	}
}

// consumer implements plugin.Env.Consumer.
func (g *Gateway) consumer(name string) *rpc.Consumer {
	if snap := g.snap.Load(); snap != nil && snap.consumers[name] != nil {
		return snap.consumers[name].Consumer
	}
	return nil
}

// Check builds the configuration without serving it and returns what Reload would say. The snapshot is for reading
// (Explain); release ends it.
func (g *Gateway) Check(ctx context.Context) (snap *Snapshot, release func(), err error) {
	g.change.Lock()
	defer g.change.Unlock()
	doc, err := g.opts.Load()
	if err != nil {
		return nil, nil, err
	}
	// What the snapshot shares with the one in force now is that one's to close, whatever is in force at the release.
	prev := g.snap.Load()
	if snap, err = g.build(ctx, doc, nil); err != nil {
		return nil, nil, err
	}
	return snap, func() { <-g.leaving.retire(snap, prev).done }, nil
}

// Current is the snapshot in force, or nil before the first.
func (g *Gateway) Current() *Snapshot { return g.snap.Load() }

// Files are the files and folders that the configuration in force, and the last one tried, depend on.
func (g *Gateway) Files() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var files []string
	for _, doc := range []*config.Document{g.attempted, docOf(g.snap.Load())} {
		if doc == nil {
			continue
		}
		files = append(files, doc.Files...)
		for _, s := range doc.Config.GetSchemas() {
			if s.GetDescriptorSet() != "" {
				files = append(files, s.GetDescriptorSet())
			}
			files = append(files, s.GetProto().GetPaths()...)
			files = append(files, s.GetProto().GetImportRoots()...)
			files = append(files, s.GetTars().GetPaths()...)
			files = append(files, s.GetTars().GetImportRoots()...)
			files = append(files, s.GetHttpRules()...)
		}
		files = append(files, authorities(doc)...)
	}
	if snap := g.snap.Load(); snap != nil {
		for _, l := range snap.schemas {
			files = append(files, l.watch...)
		}
	}
	return files
}

// authorities are the files of trusted authorities: a change of theirs is a change of the configuration. Certificates and
// keys follow their files by themselves.
func authorities(doc *config.Document) []string {
	var files []string
	add := func(file string) {
		if file != "" {
			files = append(files, file)
		}
	}
	for _, l := range doc.Config.GetListen() {
		add(l.GetTls().GetClientCaFile())
	}
	for _, s := range doc.Config.GetServices() {
		add(s.GetTls().GetCaFile())
	}
	for _, r := range doc.Config.GetRegistries() {
		add(r.GetZookeeper().GetTls().GetCaFile())
	}
	for _, s := range doc.Config.GetStores() {
		add(s.GetRedis().GetTls().GetCaFile())
	}
	return files
}

func docOf(s *Snapshot) *config.Document {
	if s == nil {
		return nil
	}
	return s.Doc
}

// ErrNoStore is the error of a push to a gateway that keeps no schemas.
var ErrNoStore = errors.New("this gateway has no data directory to keep schemas in")

// UnknownSchemaError is the error of a push to a name that the configuration does not take pushes for.
type UnknownSchemaError struct{ Name, Problem string }

// Error says what is wrong with the name, and the fix.
func (e *UnknownSchemaError) Error() string {
	return fmt.Sprintf("schema %q %s", e.Name, e.Problem)
}

// Push checks a descriptor set as the next version of a pushed schema, compiles it aside, keeps it on disk and puts it
// into force. On an error nothing has changed.
func (g *Gateway) Push(ctx context.Context, name string, set *source.Set, from string) (source.Version, error) {
	g.change.Lock()
	defer g.change.Unlock()
	if err := g.takesPushes(name); err != nil {
		return source.Version{}, err
	}
	next, err := g.build(ctx, g.snap.Load().Doc, map[string]*source.Set{name: set})
	if err != nil {
		return source.Version{}, err
	}
	// From here on nothing depends on the caller or the network: what is kept is what is put into force.
	v, err := g.opts.Store.Push(name, set, from, time.Now())
	if err != nil {
		g.discard(next)
		return source.Version{}, err
	}
	next.schemas[name].pushedAs(v)
	return v, g.install(next)
}

// Rollback puts a former version of a pushed schema into force; to 0: the one before the active. On an error nothing has
// changed.
func (g *Gateway) Rollback(ctx context.Context, name string, to int) (source.Version, error) {
	g.change.Lock()
	defer g.change.Unlock()
	if err := g.takesPushes(name); err != nil {
		return source.Version{}, err
	}
	_, active, ok, err := g.opts.Store.Active(name)
	if err != nil {
		return source.Version{}, err
	}
	v, err := g.opts.Store.Rollback(name, to)
	if err != nil {
		return source.Version{}, err
	}
	if err := g.apply(ctx, g.snap.Load().Doc); err != nil {
		if ok {
			if _, back := g.opts.Store.Rollback(name, active.Number); back != nil {
				err = errors.Join(err, back)
			}
		}
		return source.Version{}, err
	}
	return v, nil
}

// SchemaLimits are the bounds of a pushed schema; the error is that of a push to it.
func (g *Gateway) SchemaLimits(name string) (source.Limits, error) {
	if err := g.takesPushes(name); err != nil {
		return source.Limits{}, err
	}
	for _, s := range g.snap.Load().Doc.Config.GetSchemas() {
		if s.GetName() == name {
			return limitsOf(s.GetLimits()), nil
		}
	}
	return source.Limits{}, nil
}

func (g *Gateway) takesPushes(name string) error {
	if g.life.Err() != nil {
		return ErrClosed
	}
	if g.opts.Store == nil {
		return ErrNoStore
	}
	snap := g.snap.Load()
	if snap == nil {
		return ErrClosed
	}
	l := snap.schemas[name]
	if l == nil {
		return &UnknownSchemaError{name, fmt.Sprintf("is not in the configuration: declare it there as `- {name: %s, pushed: {}}`", name)}
	}
	if !l.pushed {
		return &UnknownSchemaError{name, fmt.Sprintf("is read from its own source (%s): change that, or declare the schema `pushed: {}`", l.origin)}
	}
	return nil
}
