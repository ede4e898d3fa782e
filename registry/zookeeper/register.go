package zookeeper

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// Registrar announces instances in the native layout. A zero field but Conn takes the default named; none is changed once
// it is in use.
type Registrar struct {
	Conn   *Conn
	Window time.Duration // how long Drain gives gateways to hear it; 5 s
	// Health is asked every HealthEvery (1 s). While it returns an error the instance is "down", before its first success
	// "starting". Nil: the instance is always up. For a gRPC server it asks its own grpc.health.v1.Health.
	Health      func(context.Context) error
	HealthEvery time.Duration
	// Hold keeps the instance out of the registry, instead of "starting" or "down" in it, while Health returns an error.
	Hold bool
	// Beat is how often a beat is written, with what Load returns (0 idle to 1 full; nil or negative: not stated). 0, the
	// default: never, the session alone is the heartbeat. Each beat is a write to every member of the ensemble.
	Beat time.Duration
	Load func() float64
	// Check is how often the instance looks whether its node is as it should be, besides being told; 15 s.
	Check time.Duration
}

// Register announces an instance over a connection of its own, which ends with the lease.
func Register(ctx context.Context, cfg Config, service string, ep registry.Endpoint) (*Lease, error) {
	conn, err := Connect(cfg)
	if err != nil {
		return nil, err
	}
	l, err := (&Registrar{Conn: conn}).register(ctx, service, ep)
	if err != nil {
		conn.Close()
		return nil, err
	}
	l.owned = conn
	return l, nil
}

// Register announces an instance and returns when its node is there (with Hold: when it is as Health has it), or ctx ends. An endpoint without an ID gets its
// address as one, without a protocol "grpc", with a weight of 0 the weight 100.
func (r *Registrar) Register(ctx context.Context, service string, ep registry.Endpoint) (registry.Lease, error) {
	l, err := r.register(ctx, service, ep)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Valid reports why an instance could never be registered, or nil.
func Valid(service string, ep registry.Endpoint) error {
	if _, err := newInstance(ep, time.Now()); err != nil {
		return err
	}
	if !registry.Allowed(nil, ep.Address) {
		return fmt.Errorf("zookeeper: want an address that others can reach, found %s", ep.Address)
	}
	return serviceName(service)
}

func (r *Registrar) register(ctx context.Context, service string, ep registry.Endpoint) (*Lease, error) {
	in, err := newInstance(ep, time.Now())
	if err != nil {
		return nil, err
	}
	native := Native{Root: r.Conn.cfg.Root}
	dir, err := native.Instances(service)
	if err != nil {
		return nil, err
	}
	beats, err := native.Beats(service)
	if err != nil {
		return nil, err
	}
	orders, err := native.orders(service)
	if err != nil {
		return nil, err
	}
	l := &Lease{
		r: *r, c: r.Conn, in: in,
		path: dir + "/" + in.ID, beat: beats + "/" + in.ID, mail: orders + "/" + in.ID,
		sub:     r.Conn.subscribe(dir + "/" + in.ID),
		changed: make(chan struct{}), wanted: 1, ended: make(chan struct{}),
	}
	l.r.Window = cmp.Or(l.r.Window, 5*time.Second)
	l.r.HealthEvery = cmp.Or(l.r.HealthEvery, time.Second)
	l.r.Check = cmp.Or(l.r.Check, 15*time.Second)
	l.ctx, l.stop = context.WithCancel(r.Conn.ctx)
	if l.r.Health != nil {
		l.health = registry.Starting
		l.c.start("the health of "+in.ID, l.followHealth)
	}
	if !l.c.start("the lease of "+in.ID, l.run) {
		l.sub.close()
		return nil, errClosed
	}
	if err := l.settle(ctx, 1); err != nil {
		l.stop()
		<-l.ended
		return nil, fmt.Errorf("zookeeper: register %s of %s: %w", in.ID, service, err)
	}
	return l, nil
}

// Lease is an announced instance. Its node is made again after the session has expired, when a former session's node is
// still in its place, and when somebody removes or spoils it. It is safe for concurrent use.
type Lease struct {
	r     Registrar
	c     *Conn
	owned *Conn // closed with the lease; nil: the connection is shared
	path  string
	beat  string
	mail  string // where an operator leaves his order beside, see heed
	sub   *subscription
	ctx   context.Context // ends the lease's goroutines
	stop  context.CancelFunc
	ended chan struct{} // run has returned

	mu       sync.Mutex
	in       Instance
	health   registry.Status
	order    registry.Status // what an operator has written to the node; Up: nothing
	draining time.Time       // since when; zero: not
	gone     bool            // to be withdrawn
	wanted   int             // rises with each change of what the node should be
	reached  int             // the wanted that the node showed last
	last     error           // why it is not reached
	changed  chan struct{}   // closed when reached or last changes

	// The goroutine's own.
	generation uint64   // of the session in which the node was last seen to be right
	wrote      []byte   // what this lease has written to the node last
	unsure     [][]byte // what it had written before, while nobody knows which of its last writes were done
	beating    uint64   // the session in which the beat's node was made
	contested  int      // how often somebody else has taken the node within one session
	failures   int
}

// Status is what the instance says of itself now.
func (l *Lease) Status() registry.Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status()
}

// status is called with the lock held: of its own word, its health's and an operator's, the one that takes it out furthest.
func (l *Lease) status() registry.Status {
	s := max(l.health, l.order)
	if !l.draining.IsZero() {
		s = max(s, registry.Draining)
	}
	return s
}

// want notes a change of what the node should be and returns its number.
func (l *Lease) want(change func()) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.wanted++
	poke(l.sub.wake)
	return l.wanted
}

// settle waits until the node shows what was wanted. When ctx ends first it says what is in the way.
func (l *Lease) settle(ctx context.Context, wanted int) error {
	for over := false; ; {
		l.mu.Lock()
		reached, last, changed := l.reached, l.last, l.changed
		l.mu.Unlock()
		switch {
		case reached >= wanted:
			return nil
		case over && last != nil:
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case over:
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			over = true // what is reached by now counts
		case <-l.ended:
			return errClosed
		}
	}
}

// Drain marks the instance as draining and returns when gateways have had the window to hear it; ctx ends it earlier. It
// waits also when ZooKeeper cannot be told, whose error it then returns.
func (l *Lease) Drain(ctx context.Context) error {
	var since time.Time
	n := l.want(func() {
		if l.draining.IsZero() {
			l.draining = time.Now()
		}
		since = l.draining
	})
	ctx, cancel := context.WithDeadline(ctx, since.Add(l.r.Window))
	defer cancel()
	err := l.settle(ctx, n)
	<-ctx.Done()
	if err != nil {
		return fmt.Errorf("zookeeper: drain %s: %w", l.path, err)
	}
	return nil
}

// Close withdraws the instance: its node is deleted. When ctx ends first the node is left to expire.
func (l *Lease) Close(ctx context.Context) error {
	err := l.settle(ctx, l.want(func() { l.gone = true }))
	l.stop()
	<-l.ended
	if l.owned != nil {
		l.owned.Close()
	}
	if err != nil && !errors.Is(err, errClosed) {
		return fmt.Errorf("zookeeper: withdraw %s: %w", l.path, err)
	}
	return nil
}

// followHealth asks until the lease ends.
func (l *Lease) followHealth() {
	for {
		ctx, cancel := context.WithTimeout(l.ctx, max(l.r.HealthEvery, time.Second))
		err := l.ask(ctx)
		cancel()
		if l.ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		next := l.health
		switch {
		case err == nil:
			next = registry.Up
		case l.health == registry.Up:
			next = registry.Down
		}
		changed := next != l.health
		l.mu.Unlock()
		if changed {
			l.c.cfg.Log.Info("zookeeper: health changed", "node", l.path, "status", next.String(), "error", err)
			l.want(func() { l.health = next })
		}
		pause(l.ctx, l.r.HealthEvery)
	}
}

// ask calls Health; a panic there is a failure.
func (l *Lease) ask(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return l.r.Health(ctx)
}

// run keeps the node as it should be until the lease ends.
func (l *Lease) run() {
	defer close(l.ended)
	defer l.sub.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	poke(l.sub.wake)
	var nextCheck, nextBeat time.Time
	for l.ctx.Err() == nil {
		wait := max(time.Until(nextCheck), 50*time.Millisecond)
		if l.r.Beat > 0 {
			wait = min(wait, max(time.Until(nextBeat), 50*time.Millisecond))
		}
		if l.failures > 0 {
			wait = min(250*time.Millisecond<<min(l.failures, 6), 10*time.Second)
		}
		if l.contested > 2 {
			wait = min(time.Second<<min(l.contested, 5), 30*time.Second)
		}
		timer.Reset(jitter(wait))
		look := false
		select {
		case <-l.ctx.Done():
			return
		case <-l.sub.wake:
			if l.contested > 2 { // two processes with one id: not as fast as they can
				pause(l.ctx, jitter(wait))
			}
		case <-timer.C:
			look = !time.Now().Before(nextCheck)
		}
		if len(l.sub.take()) > 0 {
			look = true
		}
		n, err := l.step(look)
		if look && err == nil {
			nextCheck = time.Now().Add(jitter(l.r.Check))
		}
		if err == nil && l.r.Beat > 0 && !l.withdrawn() && !time.Now().Before(nextBeat) {
			if err := l.sendBeat(); err != nil {
				l.c.cfg.Log.Debug("zookeeper: no beat", "node", l.beat, "error", err)
			}
			nextBeat = time.Now().Add(jitter(l.r.Beat))
		}
		l.note(n, err)
	}
}

// withdrawn reports whether the instance is to be gone, for good or for now, and its beats with it.
func (l *Lease) withdrawn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone || l.held()
}

// held is called with the lock held. It reports whether the instance is to be gone for now.
func (l *Lease) held() bool { return l.r.Hold && l.health != registry.Up }

// jitter is d give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d)) //nolint:gosec // spreads load, no secret
}

func (l *Lease) note(n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = err
	if err == nil {
		l.failures = 0
		l.reached = max(l.reached, n)
	} else if l.ctx.Err() != nil {
		return // it is over
	} else if lost(err) {
		l.failures = 2 // a second; told earlier when there is a connection again
	} else {
		l.failures++
		l.c.cfg.Log.Warn("zookeeper: instance not announced", "node", l.path, "error", err)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// step brings the node to what is wanted and returns the number of that. Without look, a node that was right in this
// session is taken to be so still.
func (l *Lease) step(look bool) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	s, _ := l.c.now()
	if !s.connected {
		return 0, errLost
	}
	l.mu.Lock()
	n, gone, held, reached := l.wanted, l.gone, l.held(), l.reached
	l.mu.Unlock()
	if !look && l.generation == s.generation && reached >= n {
		return n, nil
	}
	if l.generation != s.generation {
		l.contested = 0
	}
	if gone {
		return n, l.withdraw(s)
	}
	if held {
		err := l.withdraw(s)
		if err == nil {
			l.generation = s.generation
		}
		return n, err
	}
	for range 5 { // each round ends what another process can undo at any moment
		right, err := l.reconcile(s)
		if err != nil {
			return 0, err
		}
		if right {
			l.generation = s.generation
			return n, nil
		}
	}
	return 0, errors.New("zookeeper: the node changes faster than it is written")
}

// data is the node's data as it should be.
func (l *Lease) data() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.Status = l.status().String()
	return json.Marshal(l.in)
}

type found struct {
	data []byte
	stat *zk.Stat
}

// reconcile looks at the node once and does the next thing that it needs. It returns true when it needs nothing.
func (l *Lease) reconcile(s state) (bool, error) {
	now, err := l.get(s)
	if errors.Is(err, zk.ErrNoNode) {
		return false, l.create(s)
	}
	if err != nil {
		return false, err
	}
	if now.stat.EphemeralOwner != s.session {
		return false, l.replace(s, now)
	}
	l.heed(s, now.data)
	want, err := l.data()
	if err != nil {
		return false, err
	}
	if bytes.Equal(now.data, want) {
		return true, nil
	}
	l.writes(want)
	_, err = do(l.ctx, l.c, s.generation, func(z *zk.Conn) (*zk.Stat, error) { return z.Set(l.path, want, now.stat.Version) })
	return false, l.written(err)
}

func (l *Lease) get(s state) (found, error) { return l.c.get(l.ctx, s.generation, l.path) }

// writes notes what is about to be written, written how it ended.
func (l *Lease) writes(data []byte) {
	if l.wrote != nil && !bytes.Equal(l.wrote, data) {
		l.unsure = append(l.unsure, l.wrote)
	}
	if len(l.unsure) > 16 {
		l.unsure = l.unsure[1:]
	}
	l.wrote = data
}

func (l *Lease) written(err error) error {
	switch {
	case err == nil:
		l.unsure = nil
	case errors.Is(err, zk.ErrBadVersion), errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrNodeExists):
		return nil // somebody else was faster: look again
	}
	return err
}

func (l *Lease) create(s state) error {
	if l.wrote != nil { // it was there, and so may an order have been
		if err := l.recall(s); err != nil {
			return err
		}
	}
	want, err := l.data()
	if err != nil {
		return err
	}
	l.writes(want)
	_, err = do(l.ctx, l.c, s.generation, func(z *zk.Conn) (string, error) {
		return z.Create(l.path, want, zk.FlagEphemeral, l.c.acl)
	})
	if errors.Is(err, zk.ErrNoNode) {
		return l.c.makeParents(l.ctx, s.generation, l.path)
	}
	return l.written(err)
}

// replace puts this session's node in the place of another one's, in one step: nobody sees the place empty. The other one
// is most often a ghost, of a former session of this process or of the process before it, and would vanish with its session.
func (l *Lease) replace(s state, now found) error {
	if l.generation == s.generation && !l.c.own(now.stat.EphemeralOwner) {
		l.contested++
		l.c.cfg.Log.Warn("zookeeper: another process registers under this id; each instance needs one of its own", "node", l.path,
			"its session", strconv.FormatInt(now.stat.EphemeralOwner, 16), "times", l.contested)
	}
	if l.wrote != nil && l.c.own(now.stat.EphemeralOwner) {
		l.heed(s, now.data)
	}
	want, err := l.data()
	if err != nil {
		return err
	}
	l.writes(want)
	_, err = do(l.ctx, l.c, s.generation, func(z *zk.Conn) ([]zk.MultiResponse, error) {
		return z.Multi(
			&zk.DeleteRequest{Path: l.path, Version: now.stat.Version},
			&zk.CreateRequest{Path: l.path, Data: want, Acl: l.c.acl, Flags: zk.FlagEphemeral},
		)
	})
	return l.written(err)
}

// withdraw deletes what this connection's sessions have made.
func (l *Lease) withdraw(s state) error {
	for _, path := range []string{l.beat, l.path} {
		_, err := do(l.ctx, l.c, s.generation, func(z *zk.Conn) (struct{}, error) {
			_, stat, err := z.Get(path)
			if err == nil && l.c.own(stat.EphemeralOwner) {
				err = z.Delete(path, stat.Version)
			}
			return struct{}{}, err
		})
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	return nil
}

// sendBeat writes the load to the beat's node, which it makes once in each session.
func (l *Lease) sendBeat() error {
	s, _ := l.c.now()
	load := -1.0
	if l.r.Load != nil {
		load = l.r.Load()
	}
	data := appendBeat(nil, load)
	if l.beating == s.generation {
		_, err := do(l.ctx, l.c, s.generation, func(z *zk.Conn) (*zk.Stat, error) { return z.Set(l.beat, data, -1) })
		if !errors.Is(err, zk.ErrNoNode) {
			return err
		}
	}
	_, err := do(l.ctx, l.c, s.generation, func(z *zk.Conn) (string, error) {
		_, stat, err := z.Get(l.beat)
		if err == nil && stat.EphemeralOwner != s.session {
			err = z.Delete(l.beat, stat.Version)
		}
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return "", err
		}
		return z.Create(l.beat, data, zk.FlagEphemeral, l.c.acl)
	})
	if errors.Is(err, zk.ErrNoNode) {
		return l.c.makeParents(l.ctx, s.generation, l.beat)
	}
	if err == nil || errors.Is(err, zk.ErrNodeExists) {
		l.beating = s.generation
		return nil
	}
	return err
}

// makeParents makes the persistent nodes above path.
func (c *Conn) makeParents(ctx context.Context, generation uint64, path string) error {
	for at := 1; ; {
		next := strings.IndexByte(path[at:], '/')
		if next < 0 {
			return nil
		}
		at += next
		_, err := do(ctx, c, generation, func(z *zk.Conn) (string, error) { return z.Create(path[:at], nil, 0, c.acl) })
		// Who may not create may still find it there.
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			if there, e := do(ctx, c, generation, func(z *zk.Conn) (bool, error) { b, _, err := z.Exists(path[:at]); return b, err }); e != nil || !there {
				return fmt.Errorf("zookeeper: create %s: %w", path[:at], err)
			}
		}
		at++
	}
}
