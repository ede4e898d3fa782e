package limit

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// The headers that tell what is left of a limit, as the drafts 00 to 06 of
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ have them: clients know these.
const (
	headerLimit     = "ratelimit-limit"
	headerRemaining = "ratelimit-remaining"
	headerReset     = "ratelimit-reset"
	headerRetry     = "retry-after"
)

// ReasonLimited and ReasonUnknown are the reasons of refusals: more than the limit, and a limit that cannot be told because its
// store is gone.
const (
	ReasonLimited = "RATE_LIMITED"
	ReasonUnknown = "LIMIT_UNAVAILABLE"
)

// show tells the caller what is left. Of several limits that is the one of which the least is.
func show(c *rpc.Call, limit string, v *Verdict) {
	if c.HTTP == nil {
		return
	}
	remaining := max(v.Remaining, 0)
	at := -1
	for i := range c.HTTP.Answer {
		if c.HTTP.Answer[i].Key == headerRemaining {
			if n, err := strconv.ParseInt(c.HTTP.Answer[i].Value, 10, 64); err == nil && n <= remaining {
				return
			}
			at = i - 1 // they stand together
			break
		}
	}
	if at < 0 {
		at = len(c.HTTP.Answer)
		c.HTTP.Answer = append(c.HTTP.Answer, rpc.Pair{}, rpc.Pair{}, rpc.Pair{})
	}
	to := c.HTTP.Answer[at : at+3]
	to[0] = rpc.Pair{Key: headerLimit, Value: limit}
	to[1] = rpc.Pair{Key: headerRemaining, Value: decimal(remaining)}
	to[2] = rpc.Pair{Key: headerReset, Value: decimal(Seconds(v.Reset))}
}

// Refused is the error of a call that is more than the limit allows; wait: until another may pass.
func Refused(wait time.Duration) *rpc.Error {
	e := rpc.Refuse(codes.ResourceExhausted, ReasonLimited, "more calls than the limit allows")
	e.Header.Add(headerRetry, decimal(max(Seconds(wait), 1)))
	return e
}

// Unknown is the error of a call whose limit cannot be told.
func Unknown(cause error) *rpc.Error {
	e := rpc.Refuse(codes.Unavailable, ReasonUnknown, "the limit of calls cannot be told now").WithCause(cause)
	e.Header.Add(headerRetry, "1")
	return e
}

// Seconds is d in whole seconds, rounded up.
func Seconds(d time.Duration) int64 {
	if d > math.MaxInt64-time.Second {
		return int64(d / time.Second)
	}
	return int64((max(d, 0) + time.Second - 1) / time.Second)
}

// decimals is the text of the numbers of four digits, one behind the other: what is small is written without allocation.
var decimals = sync.OnceValue(func() string {
	var b strings.Builder
	b.Grow(4 * 10_000)
	for i := range 10_000 {
		s := strconv.Itoa(i)
		b.WriteString("000"[:4-len(s)])
		b.WriteString(s)
	}
	return b.String()
})

// decimal writes a number that is not negative.
func decimal(n int64) string {
	if n < 0 || n >= 10_000 {
		return strconv.FormatInt(n, 10)
	}
	digits := 1
	for m := n; m >= 10; m /= 10 {
		digits++
	}
	end := 4 * (n + 1)
	return decimals()[end-int64(digits) : end]
}
