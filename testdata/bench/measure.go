package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// plan says what is measured and how long.
type plan struct {
	rounds     int
	seconds    time.Duration // measured per candidate and round
	warm       time.Duration // before that, not counted
	latency    time.Duration // per latency run
	costOnly   bool          // no latency runs
	conns      int
	rate       int // calls per second of the open-loop run
	maxProcs   int
	scenarios  []scenario
	backends   []string
	candidates []candidate
	absent     []string // candidates that are not installed
	causeway   string
	dir        string
	cert       *certificate
	progress   func(format string, args ...any)
}

// round is what one candidate cost in one round.
type round struct {
	Calls      int     `json:"calls"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu_us_per_call"`
	User       float64 `json:"user_us_per_call"`
	Sys        float64 `json:"sys_us_per_call"`
	ToFloor    float64 `json:"ratio_to_floor,omitempty"`
	ToGateway  float64 `json:"ratio_to_grpc_gateway,omitempty"`
	ToNginx    float64 `json:"ratio_to_nginx,omitempty"`
	Throughput float64 `json:"calls_per_second"`
	Busy       float64 `json:"cores_busy"`

	OneConnection *latencies `json:"one_connection,omitempty"`
	ConstantRate  *latencies `json:"constant_rate,omitempty"`
}

// latencies of one way to call.
type latencies struct {
	Calls int     `json:"calls"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	all   []time.Duration
}

// result is everything about one candidate in one scenario at one backend.
type result struct {
	Scenario      string     `json:"scenario"`
	About         string     `json:"about"`
	Backend       string     `json:"backend"`
	Candidate     string     `json:"candidate"`
	Rounds        []round    `json:"rounds"`
	CPU           float64    `json:"median_cpu_us_per_call"`
	User          float64    `json:"median_user_us_per_call"`
	Sys           float64    `json:"median_sys_us_per_call"`
	PerCoreSecond float64    `json:"median_calls_per_core_second"`
	Busy          float64    `json:"median_cores_busy"`
	ToFloor       float64    `json:"median_ratio_to_floor,omitempty"`
	ToGateway     float64    `json:"median_ratio_to_grpc_gateway,omitempty"`
	ToNginx       float64    `json:"median_ratio_to_nginx,omitempty"`
	OneConnection *latencies `json:"one_connection,omitempty"`
	ConstantRate  *latencies `json:"constant_rate,omitempty"`
}

// run measures everything the plan names, one scenario at one backend after the other.
func (p *plan) run(ctx context.Context) ([]*result, error) {
	var all []*result
	for i := range p.scenarios {
		for _, backend := range p.backends {
			sc := &p.scenarios[i]
			if !slices.Contains(sc.backends, backend) {
				continue
			}
			p.progress("%s at %s", sc.name, backend)
			results, err := p.scene(ctx, sc, backend)
			if err != nil {
				return nil, fmt.Errorf("scenario %s at backend %s: %w", sc.name, backend, err)
			}
			all = append(all, results...)
		}
	}
	return all, nil
}

// rival is a candidate on stage.
type rival struct {
	*candidate

	entrant *entrant
	stage   *stage
	process *process
	load    load
	result  *result
	calls   int // answered by it so far
}

// backends by the name of the report and the role that serves them.
var backendRoles = map[string]string{"canned": roleCanned, "grpc-go": roleBackend}

// scene measures all candidates in one scenario at one backend.
func (p *plan) scene(ctx context.Context, sc *scenario, backendName string) (results []*result, err error) {
	server, err := startRole(backendName, 0, backendRoles[backendName])
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var rivals []*rival
	defer func() {
		for _, r := range rivals {
			r.process.stop()
		}
	}()
	for i := range sc.entrants {
		e := &sc.entrants[i]
		c := p.candidate(e.candidate)
		if c == nil || e.canned && backendName != "canned" {
			continue
		}
		s := &stage{scenario: sc, entrant: e, backend: server, maxProcs: cmp.Or(e.procs, p.maxProcs), causeway: p.causeway}
		if e.tls {
			s.cert = p.cert
		}
		if s.dir, err = os.MkdirTemp(p.dir, sc.name); err != nil {
			return nil, err
		}
		defer os.RemoveAll(s.dir)
		proc, err := c.start(ctx, s)
		if err != nil {
			return nil, err
		}
		r := &rival{candidate: c, entrant: e, stage: s, process: proc, result: &result{
			Scenario: sc.name, About: sc.about, Backend: backendName, Candidate: e.label(),
		}}
		rivals = append(rivals, r)
		results = append(results, r.result)
		if err := p.meet(ctx, r); err != nil {
			return nil, fmt.Errorf("%s: %w%s", e.label(), err, proc.errors)
		}
	}
	for n := range p.rounds {
		if err := p.round(ctx, n, rivals, sc.latency && !p.costOnly); err != nil {
			return nil, err
		}
	}
	for _, r := range rivals {
		r.result.sum()
		if r.proof == nil {
			continue
		}
		if err := r.proof(ctx, r.stage, r.process, r.calls); err != nil {
			return nil, fmt.Errorf("%s: %w%s", r.name, err, r.process.errors)
		}
	}
	return results, nil
}

// readyWithin is how long a candidate may take until it gives the first right answer; grpc-gateway needs seconds for
// 10,000 routes.
const readyWithin = 60 * time.Second

// meet waits until a candidate answers, checks that it answers right and keeps its answer: from then on every answer must
// have the same bytes.
func (p *plan) meet(ctx context.Context, r *rival) error {
	s, c := r.stage, r.entrant.call
	r.load = load{
		address: r.process.address, call: c, conns: 1, streams: 1,
		pid:      r.process.cmd.Process.Pid,
		blocking: s.scenario.blocking,
	}
	if s.cert != nil {
		r.load.tls = s.cert.client
	}
	if c.protocol == speaksGRPC {
		r.load.body = c.answer
	} else {
		r.load.request = newRequest(c, r.process.address, r.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		a, err := r.load.once(ctx)
		if err == nil {
			r.calls++
			if c.protocol == speaksGRPC {
				return nil // the load compared it
			}
			r.load.body = bytes.Clone(a.body)
			return c.check(a)
		}
		if _, wrong := errors.AsType[*faultError](err); wrong {
			return err
		}
		select {
		case <-retry.C: // it does not listen yet
		case <-r.process.ended:
			return errors.New("it ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", readyWithin, err)
		}
	}
}

// faultError is a candidate's answer that is not the right one.
type faultError struct{ error }

// once makes one call on a connection of its own.
func (l *load) once(ctx context.Context) (answer, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if l.call.protocol == speaksGRPC {
		one := *l
		one.measure = time.Millisecond
		if _, err := one.run(ctx); err != nil {
			return answer{}, &faultError{err}
		}
		return answer{}, nil
	}
	if err := conn.SetDeadline(time.Now().Add(stallAfter)); err != nil {
		return answer{}, err
	}
	l.request.vary(1, 2, 3)
	return roundTrip(conn, l.request.bytes, make([]byte, answerSize+4*len(l.call.answer)), &answerParser{})
}

// round measures every rival once, beginning with another one each time so that none always follows the same.
func (p *plan) round(ctx context.Context, n int, rivals []*rival, latency bool) error {
	costs := map[string]float64{}
	for i := range rivals {
		r := rivals[(i+n)%len(rivals)]
		out, err := p.load(ctx, r, func(l *load) {
			l.conns, l.streams = cmp.Or(r.entrant.conns, p.conns), max(r.entrant.streams, 1)
			l.warm, l.measure = p.warm, p.seconds
		})
		if err != nil {
			return err
		}
		units := float64(out.calls)
		if c := r.entrant.call; c.messages > 0 {
			units = float64(out.bytes) / float64(c.size(r.load.body))
		}
		if units == 0 {
			return fmt.Errorf("%s: no call was answered within %v", r.entrant.label(), p.seconds)
		}
		per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / units }
		got := round{
			Calls: out.calls, Seconds: out.took.Seconds(),
			CPU: per(out.cpu.total), User: per(out.cpu.user), Sys: per(out.cpu.sys),
			Throughput: units / out.took.Seconds(),
			Busy:       out.cpu.total.Seconds() / out.took.Seconds(),
		}
		costs[r.entrant.label()] = got.CPU
		r.result.Rounds = append(r.result.Rounds, got)
	}
	for _, r := range rivals {
		got := &r.result.Rounds[n]
		for name, to := range map[string]*float64{floorName: &got.ToFloor, peerName: &got.ToGateway, nginxName: &got.ToNginx} {
			if cost := costs[name]; cost > 0 {
				*to = got.CPU / cost
			}
		}
	}
	if !latency {
		return nil
	}
	for i := range rivals {
		r := rivals[(i+n)%len(rivals)]
		if err := p.latencies(ctx, r, n); err != nil {
			return err
		}
	}
	return nil
}

// latencies takes the latency at one connection and at a constant rate.
func (p *plan) latencies(ctx context.Context, r *rival, n int) error {
	got := &r.result.Rounds[n]
	out, err := p.load(ctx, r, func(l *load) { l.conns, l.streams, l.warm, l.measure, l.latency = 1, 1, p.warm, p.latency, true })
	if err != nil {
		return err
	}
	got.OneConnection = got.OneConnection.join(out.latency)
	r.result.OneConnection = r.result.OneConnection.join(out.latency)
	out, err = p.load(ctx, r, func(l *load) {
		l.conns, l.streams = cmp.Or(r.entrant.conns, p.conns), max(r.entrant.streams, 1)
		l.warm, l.measure, l.latency, l.rate = p.warm, p.latency, true, p.rate
	})
	if err != nil {
		return err
	}
	got.ConstantRate = got.ConstantRate.join(out.latency)
	r.result.ConstantRate = r.result.ConstantRate.join(out.latency)
	return nil
}

// load runs one load against a rival.
func (p *plan) load(ctx context.Context, r *rival, set func(*load)) (*loaded, error) {
	l := r.load
	set(&l)
	out, err := l.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", r.entrant.label(), err, r.process.errors)
	}
	r.calls += out.calls
	return out, nil
}

func (l *latencies) join(more []time.Duration) *latencies {
	if l == nil {
		l = &latencies{}
	}
	l.all = append(l.all, more...)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	l.Calls, l.P50, l.P99 = len(l.all), ms(percentile(l.all, 50)), ms(percentile(l.all, 99))
	return l
}

// sum takes the medians over the rounds.
func (r *result) sum() {
	r.CPU = r.median(func(n round) float64 { return n.CPU })
	r.User = r.median(func(n round) float64 { return n.User })
	r.Sys = r.median(func(n round) float64 { return n.Sys })
	r.PerCoreSecond = 1e6 / r.CPU
	r.Busy = r.median(func(n round) float64 { return n.Busy })
	r.ToFloor = r.median(func(n round) float64 { return n.ToFloor })
	r.ToGateway = r.median(func(n round) float64 { return n.ToGateway })
	r.ToNginx = r.median(func(n round) float64 { return n.ToNginx })
}

func (r *result) median(of func(round) float64) float64 {
	values := make([]float64, 0, len(r.Rounds))
	for _, n := range r.Rounds {
		values = append(values, of(n))
	}
	return median(values)
}

// median sorts the values.
func median(values []float64) float64 {
	slices.Sort(values)
	if len(values)%2 == 0 {
		return (values[len(values)/2-1] + values[len(values)/2]) / 2
	}
	return values[len(values)/2]
}

// candidate is one of those that are asked for; nil when it is not.
func (p *plan) candidate(name string) *candidate {
	for i := range p.candidates {
		if p.candidates[i].name == name {
			return &p.candidates[i]
		}
	}
	return nil
}

// repositoryRoot is where the gateway is built: the folder two above the bench's module.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	root := filepath.Join(dir, "..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return "", fmt.Errorf("run the bench in its own folder, testdata/bench: %w", err)
	}
	return root, nil
}
