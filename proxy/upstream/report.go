package upstream

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// hung is how long an instance has left a call without an answer when the call's own end, sooner or later, is held against it.
const hung = time.Second

// Unmeasured is the time that Report is told of attempts whose length says nothing of the instance: streams.
const Unmeasured = time.Duration(-1)

// Report takes the outcome of one attempt on a node, which took so long or is Unmeasured. It may be called by any goroutine; it
// takes no lock, and where err is nil it does not allocate.
func (s *Service) Report(n *balancer.Node, err error, took time.Duration) {
	outcome := outlier.Success
	if err != nil {
		outcome = Classify(err, took)
	}
	switch {
	case took < 0 || outcome == outlier.Neutral:
	case outcome == outlier.Success:
		n.Observe(took, s.Clock())
	default:
		n.ObserveFailure(took, s.Clock())
	}
	if n.Outcomes == nil {
		return
	}
	switch outcome {
	case outlier.Unreached:
		n.Miss() // the next call must not wait for the keeper
	case outlier.Success:
		n.Found()
	case outlier.Failed, outlier.Neutral:
	}
	if n.Outcomes.Observe(outcome, took) {
		s.lookSoon()
		return
	}
	if !s.busy.Load() {
		s.busy.Store(true)
		if !s.ticking.Load() {
			s.poke()
		}
	}
}

// Overtaken takes note of an attempt on a node that was broken off after so long because another was faster: had it gone on it would
// have taken longer. It is no outcome, and may be called beside Report.
func (s *Service) Overtaken(n *balancer.Node, took time.Duration) { n.Observe(took, s.Clock()) }

// lookSoon has the outcomes of calls looked at now, by the service that this one's configuration was changed to as well: the
// record asks only once.
func (s *Service) lookSoon() {
	for ; s != nil; s = s.successor.Load() {
		s.look.Store(true)
		s.poke()
	}
}

// Clock is the time of balancer.Info.Now: monotonic nanoseconds.
func (s *Service) Clock() int64 { return int64(time.Since(s.epoch)) }

// unreachable is the reason of the errors of transports that found no connection.
const unreachable = "UPSTREAM_UNREACHABLE"

// Classify tells what the end of an attempt that took so long says of its instance.
//
// An answer of the method, an error too, is a success. What the framework or the gateway refused says nothing, nor does a caller
// that leaves. What the transport could not do counts: as not reached when there was no connection, else as failed, also when an
// instance that is there has turned the call away; a timeout of the attempt's own is to be reported as such a failure. The
// end of the whole call's time counts only when the instance had at least a second, for callers may have none to give; that
// the call was not sent by then says that the instance is busy as well as that it is gone.
func Classify(err error, took time.Duration) outlier.Outcome {
	var e *rpc.Error
	if !errors.As(err, &e) {
		e = rpc.AsError(err)
	}
	switch {
	case e.Class == rpc.Business:
		return outlier.Success
	case e.Code == codes.Canceled:
		return outlier.Neutral
	case e.Class == rpc.Transport && e.Reason == unreachable && !e.Executed:
		return outlier.Unreached
	case e.Class == rpc.Transport, e.Code == codes.DeadlineExceeded && took >= hung:
		return outlier.Failed
	}
	return outlier.Neutral
}
