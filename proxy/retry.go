package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// retries is when the calls of a route are tried again. It is complete before the route is in force.
type retries struct {
	attempts   int
	perTry     time.Duration // 0: as long as the call
	hedgeAfter time.Duration // 0: never
	codes      []codes.Code
	idempotent *bool                   // whatever methods say; nil: as they say
	verbs      map[*schema.Method]bool // methods with HTTP rules: all of them have idempotent verbs
}

// retryCounts are the metrics of a service's retries.
type retryCounts struct{ retried, hedged, refused counter }

// newRetries reads the policy of a route, or that of its service where it has none.
func newRetries(conf *configv1.Retry) *retries {
	r := &retries{
		attempts: int(conf.GetAttempts()), perTry: conf.GetPerTryTimeout().AsDuration(), hedgeAfter: conf.GetHedgeAfter().AsDuration(),
		idempotent: conf.Idempotent, verbs: map[*schema.Method]bool{},
	}
	for _, name := range conf.GetCodes() {
		if c, ok := config.Code(name); ok {
			r.codes = append(r.codes, c)
		}
	}
	return r
}

// reached notes that an HTTP rule calls the method with a verb. RFC 9110, section 9.2.2, says which verbs are idempotent.
func (r *retries) reached(m *schema.Method, verb string) {
	before, ok := r.verbs[m]
	r.verbs[m] = (before || !ok) && (verb == "GET" || verb == "PUT" || verb == "DELETE")
}

// twice tells whether running a method twice does what running it once does.
func (r *retries) twice(m *schema.Method) bool {
	if r.idempotent != nil {
		return *r.idempotent
	}
	return m.Idempotent || r.verbs[m]
}

// retryHeader counts the tries that a call has had, among proxies: a caller that tries itself is not helped by more.
const retryHeader = "x-retry-attempt"

// again tells whether a call that ended with err is tried once more, and waits where the next instance has had it already.
func (t *try) again(ctx context.Context, c *rpc.Call, err error) bool {
	if c.Attempts == 0 || c.Attempts >= t.retries.attempts || ctx.Err() != nil {
		return false
	}
	if !t.asked { // once, for it is set below
		t.asked, t.counted = true, headerOf(c, retryHeader) != ""
	}
	if !notExecuted(err) && (t.counted || !t.retries.twice(c.Method) || !t.retriable(err)) {
		return false
	}
	if !t.to.up.Budget().Withdraw() {
		t.to.retried.refused.Add(1)
		return false
	}
	t.to.retried.retried.Add(1)
	c.Header.Set(retryHeader, strconv.Itoa(c.Attempts))
	if len(t.info.Tried) >= len(t.to.up.Nodes()) { // there is no other: it gets a moment
		wait(ctx, rand.N(backoff<<min(c.Attempts-1, 4))) //nolint:gosec // gateways must not try in step; nothing is secret
	}
	return ctx.Err() == nil
}

// backoff is the longest pause before the first retry on the same instance; it doubles.
const backoff = 20 * time.Millisecond

// retriable tells whether an idempotent call that ended so may be tried on another instance.
func (t *try) retriable(err error) bool {
	var e *rpc.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Class == rpc.Transport || e.Class == rpc.Business && slices.Contains(t.retries.codes, e.Code)
}

// notExecuted tells that no upstream has run the call that ended so: another may. It is apart from Handle because the variable
// that errors.As fills is allocated where it is declared.
func notExecuted(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e) && !e.Executed && e.Class == rpc.Transport
}

// seconds writes a time as Retry-After has it, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
