package outlier

import "time"

func (r *Record) lasting() bool { return r.spell.Load().lasts() }

// review brings a record up to date and notes the case against it.
func (d *Detector) review(r *Record, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rules.Load() != d.rules {
		r.rules.Store(d.rules)
	}
	if d.rules.LatencyFactor > 0 && r.hist.Load() == nil {
		r.hist.Store(new(latencies))
	}
	r.run.And(^uint64(asked))
	if s := r.spell.Load(); s.lasts() && !now.Before(s.Until) {
		r.end(s, now, ByTime)
	}
	ticked := r.fold(d.rules, now)
	if r.lasting() {
		return
	}
	r.settle(d.rules, now)

	run := r.run.Load()
	switch reason := d.rules.inRow(run); reason {
	case ReasonUnreached:
		d.cases = append(d.cases, finding{Record: r, reason: reason, rank: 0, weight: float64(run & unreachedMask >> runBits)})
		return
	case ReasonConsecutive:
		d.cases = append(d.cases, finding{Record: r, reason: reason, rank: 1, weight: float64(run & runMask)})
		return
	}
	if !ticked {
		return
	}
	if d.rules.FailureRate > 0 {
		var w tally
		for _, s := range r.ring {
			w.ok, w.bad = w.ok+s.ok, w.bad+s.bad
		}
		if calls := w.ok + w.bad; calls >= uint64(max(1, d.rules.MinCalls)) && float64(w.bad) >= d.rules.FailureRate*float64(calls) {
			d.cases = append(d.cases, finding{Record: r, reason: ReasonFailureRate, rank: 2, weight: float64(w.bad) / float64(calls), ok: w.ok, bad: w.bad})
		}
	}
	least := d.rules.MinCalls
	if s := r.spell.Load(); run&watched != 0 && s != nil && s.Reason == ReasonLatency {
		least = (least + 3) / 4 // it takes less to see again what was seen before
	}
	if h := r.hist.Load(); h != nil && d.rules.LatencyFactor > 0 && h.total >= float32(max(1, least)) {
		d.speed = append(d.speed, speed{Record: r, half: h.quantile(0.5), tenth: h.quantile(0.9)})
	}
}

// fold takes the calls since the last time into the window, when a slot is over.
func (r *Record) fold(rules *rules, now time.Time) (ticked bool) {
	if r.slot != rules.slot {
		r.slot, r.epoch, r.at = rules.slot, now, 0
		r.forget(rules)
		return false
	}
	at := int64(now.Sub(r.epoch) / r.slot)
	passed := at - r.at
	if passed <= 0 {
		return false
	}
	for i := range min(passed, slots) {
		r.ring[(at-i)%slots] = tally{}
	}
	r.at = at
	r.ring[at%slots] = r.came(rules, fade(passed))
	return true
}

// came is the calls since the last time; what the histogram held keeps the share kept of its weight.
func (r *Record) came(rules *rules, kept float32) tally {
	total := tally{r.ok.Load(), r.bad.Load()}
	came := tally{total.ok - r.seen.ok, total.bad - r.seen.bad}
	r.seen = total
	if h := r.hist.Load(); h != nil {
		came.ok += h.fold(kept, 2*rules.MinCalls)
	}
	return came
}

// forget starts a window with nothing in it.
func (r *Record) forget(rules *rules) {
	r.ring = [slots]tally{}
	r.came(rules, 0)
	if h := r.hist.Load(); h != nil {
		h.forget()
	}
}

// settle lets time in rotation speak for an instance.
func (r *Record) settle(rules *rules, now time.Time) {
	s := r.spell.Load()
	if s == nil {
		return
	}
	trusted := s.ended.Add(rules.Interval)
	if r.last != s {
		r.last, r.calm = s, trusted
	}
	if r.well.Load() {
		r.times[1] = 0
	}
	if !now.Before(trusted) {
		r.run.And(^uint64(watched))
	}
	for r.times != [2]int{} && !now.Before(r.calm.Add(rules.Interval)) {
		r.calm = r.calm.Add(rules.Interval)
		r.times = [2]int{max(0, r.times[0]-1), max(0, r.times[1]-1)}
	}
}

// longestTimes is where the count of ejections ends; Max has been reached long before.
const longestTimes = 64

// eject takes the instance out.
func (r *Record) eject(rules *rules, now time.Time, reason, detail string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.spell.Load()
	if last.lasts() {
		return false
	}
	kind := 0
	if reason == ReasonUnreached {
		kind = 1
	}
	r.times[kind] = min(r.times[kind]+1, longestTimes)
	s := &spell{Ejection: Ejection{
		Since: now, Until: now.Add(rules.length(kind == 1, r.times[kind])), Reason: reason, Detail: detail, Times: r.times[kind],
	}}
	if last != nil && now.Before(last.ended.Add(rules.Interval)) && (kind == 0 || !r.well.Load()) {
		s.deaf = last.deaf || last.how == ByCheck
	}
	if !r.spell.CompareAndSwap(last, s) {
		return false
	}
	// In this order: whoever sees that the record is watched finds the spell.
	r.well.Store(false)
	r.run.Store(watched)
	r.forget(rules)
	return true
}
