package framed

import (
	"sync"
	"time"
)

// Idle workers: as many are kept, and for so long.
const (
	idleWorkers = 512
	workerIdle  = 10 * time.Second
)

// workers are goroutines that run calls, kept with their grown stacks from one call to the next. Those that wait end when
// they have waited long, and when the last connection has gone.
type workers struct {
	mu    sync.Mutex
	idle  []*worker // the one that came last is taken first
	conns int
	now   time.Time // when trim came last: about a second ago, and that is near enough
}

type worker struct {
	next  chan *Incoming // room for one: giving does not wait
	since time.Time      // of being idle
}

// run hands in to a worker; it does not wait.
func (p *workers) run(in *Incoming) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		w.next <- in
		return
	}
	p.mu.Unlock()
	w := &worker{next: make(chan *Incoming, 1)}
	go w.work(p, in)
}

func (w *worker) work(p *workers, in *Incoming) {
	for in != nil {
		in.run()
		if !p.park(w) {
			return
		}
		in = <-w.next // nil: it was closed
	}
}

func (p *workers) park(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= idleWorkers || p.conns == 0 {
		return false
	}
	w.since = p.now
	p.idle = append(p.idle, w)
	return true
}

// enter and leave count the connections that have calls.
func (p *workers) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == 0 {
		p.now = time.Now()
	}
	p.conns++
}

func (p *workers) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns--
	if p.conns == 0 {
		p.end(len(p.idle))
	}
}

// trim ends workers that have been idle for long.
func (p *workers) trim(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.now) < time.Second {
		return
	}
	p.now = now
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) > workerIdle {
		n++
	}
	p.end(n)
}

// end ends the n workers that have been idle the longest. The lock is held.
func (p *workers) end(n int) {
	for _, w := range p.idle[:n] {
		close(w.next)
	}
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
}
