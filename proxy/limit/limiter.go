// Package limit holds what the plugins that limit calls share: which calls are counted together, a bounded table of what was
// counted, places leased from a store that gateways share, and what callers are told.
package limit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	limitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limit/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Rule says whether a call may pass. S is what it keeps of a key; the zero S is that of a key never seen. It never changes.
type Rule[S any] interface {
	// Take counts a call at now, nanoseconds on a clock that only rises.
	Take(s *S, now int64) Verdict
	// Rests tells that s means no more than the zero value.
	Rests(s *S, now int64) bool
}

// Shared is a rule whose counts can be in a store.
type Shared interface {
	// Script takes so many places of the key KEYS[1] as ARGV[1] says, or fewer, by the server's clock. The further arguments
	// are those of Args. It returns five whole numbers: places taken; places left; and in microseconds how long to wait for the
	// next where none was taken, until the count is as for a key never seen, and for how long the places are good.
	Script() *plugin.Script
	Args() []any
	// Batch is how many places one gateway takes at once at most.
	Batch() int64
}

// Verdict is what a rule says of a call.
type Verdict struct {
	OK        bool
	Remaining int64         // calls that could pass after this one, at once
	Wait      time.Duration // of a call that does not pass: when the next one may
	Reset     time.Duration // until the key is as never seen
	Early     time.Duration // of a call that passes: how long before its turn
}

// Config is what the configurations of limiters have in common.
type Config interface {
	SharedConfig
	GetHideHeaders() bool
}

// SharedConfig is a configuration of a limit that may be shared by gateways.
type SharedConfig interface {
	proto.Message
	GetKey() *limitv1.Key
	GetStore() string
	GetOnError() limitv1.OnError
	GetReplicas() int32
}

// Options make a limiter of a rule.
type Options[R any] struct {
	Plugin string // its name, for metrics: "limit_req"
	Rule   R
	Shared Shared // the same rule in a store; asked only where the configuration names one
	Share  R      // the part of it that one gateway has while the store is gone
	Limit  int64  // what callers are told is the limit
}

// Limiter counts calls by their keys. It may be used by many goroutines.
type Limiter[S any, R Rule[S]] struct {
	rule, share R
	keys        *Keys
	limit       string
	hide        bool
	table       *table[state[S]]
	clock       func() time.Time
	born        time.Time
	shared      *shared
	refused     *telemetry.CounterVec
	failed      *telemetry.Counter
}

// state is what is kept of one key.
type state[S any] struct {
	own   S
	lease lease
}

// epoch is what the clock of rules begins at: no window of a zero state has begun within the longest window before.
const epoch = int64(1) << 58

// New makes a limiter. The error is a *plugin.Fault where it is about the configuration.
func New[S any, R Rule[S]](o Options[R], conf Config, env plugin.Env) (*Limiter[S, R], error) {
	keys, err := NewKeys(conf.GetKey(), "key")
	if err != nil {
		return nil, err
	}
	l := &Limiter[S, R]{
		rule: o.Rule, share: o.Share, keys: keys, limit: strconv.FormatInt(o.Limit, 10), hide: conf.GetHideHeaders(),
		clock: env.Now, born: env.Now(),
	}
	l.table = newTable(MaxKeys, func(s *state[S], now int64) bool {
		return l.rule.Rests(&s.own, now) && s.lease.rests(now)
	})
	if l.refused, err = env.Meter.Counter("causeway_"+o.Plugin+"_refused_total", "", "Calls refused because of a limit.", "route"); err != nil {
		return nil, err
	}
	store, prefix, err := Open(o.Plugin, conf, env)
	if err != nil || store == nil {
		return l, err
	}
	failed, err := env.Meter.Counter("causeway_"+o.Plugin+"_store_failures_total", "", "Calls whose limit a store could not tell.", "store")
	if err != nil {
		return nil, err
	}
	l.failed = failed.With(conf.GetStore())
	l.shared = newShared(store, o.Shared, prefix, conf.GetOnError())
	return l, nil
}

// Open finds the store of a plugin's limit, nil where its configuration names none, and what the limit's keys begin with there.
func Open(name string, conf SharedConfig, env plugin.Env) (st plugin.Store, prefix string, err error) {
	if err := checkShared(conf); err != nil || conf.GetStore() == "" {
		return nil, "", err
	}
	if st, err = env.Store(conf.GetStore()); err != nil {
		return nil, "", plugin.Faultf("store", "name one of `stores`", "%s", err)
	}
	scope, err := scopeOf(conf, env.Scope)
	sum := sha256.Sum256([]byte(scope))
	return st, "causeway:" + name + ":" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ":", err
}

// scopeOf tells the counts of one limit in a store from those of all others: it is where the limit stands and what it says,
// the same for all gateways with that configuration.
func scopeOf(conf SharedConfig, scope string) (string, error) {
	own := proto.Clone(conf).ProtoReflect()
	for _, name := range [...]protoreflect.Name{"store", "on_error", "replicas", "hide_headers"} {
		if fd := own.Descriptor().Fields().ByName(name); fd != nil {
			own.Clear(fd)
		}
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(own.Interface())
	return scope + "\x00" + string(raw), err
}

// maxReplicas bounds the gateways that share a limit: a larger number is a mistake.
const maxReplicas = 10_000

// checkShared refuses what is said about a store where there is none.
func checkShared(conf SharedConfig) error {
	n := conf.GetReplicas()
	switch {
	case n < 0 || n > maxReplicas:
		return plugin.Faultf("replicas", "write how many gateways share the limit", "wanted 1 to %d, found %d", maxReplicas, n)
	case conf.GetStore() != "":
		return nil
	case n > 0:
		return plugin.Faultf("replicas", "name a `store`, or remove it", "without a store every gateway limits for itself")
	case conf.GetOnError() != limitv1.OnError_ON_ERROR_UNSPECIFIED:
		return plugin.Faultf("on_error", "name a `store`, or remove it", "there is no store that could fail")
	}
	return nil
}

// Replicas is how many gateways a configuration says share the limit.
func Replicas(conf SharedConfig) int64 { return int64(max(conf.GetReplicas(), 1)) }

func (l *Limiter[S, R]) now() int64 { return epoch + int64(l.clock().Sub(l.born)) }

// Take counts a call and tells its caller what is left. The error refuses it.
func (l *Limiter[S, R]) Take(ctx context.Context, c *rpc.Call) (Verdict, error) {
	key, err := l.keys.Of(ctx, c)
	if err != nil {
		return Verdict{}, err
	}
	hash := l.keys.hash(key)
	var v Verdict
	if l.shared == nil {
		v = l.take(hash, l.rule)
	} else if v, err = l.lease(ctx, hash, key); err != nil {
		l.failed.Inc()
		switch l.shared.onError {
		case limitv1.OnError_ON_ERROR_ALLOW:
			return Verdict{OK: true}, nil
		case limitv1.OnError_ON_ERROR_DENY:
			return Verdict{}, Unknown(err)
		case limitv1.OnError_ON_ERROR_LOCAL, limitv1.OnError_ON_ERROR_UNSPECIFIED:
			v = l.take(hash, l.share)
		}
	}
	if !l.hide {
		show(c, l.limit, &v)
	}
	if !v.OK {
		l.refused.With(c.Route).Inc()
		return v, Refused(v.Wait)
	}
	return v, nil
}

// take counts a call by the gateway's own table.
func (l *Limiter[S, R]) take(hash uint64, rule R) Verdict {
	p := l.table.lock(hash)
	now := l.now() // behind the lock: the calls of a key are counted in the order of their times
	s := p.find(hash, now)
	v := rule.Take(&s.of.own, now)
	p.mark(s, !v.OK)
	p.mu.Unlock()
	return v
}

// ReadsCaller implements plugin.CallerReader: where nobody is known, the address stands in.
func (l *Limiter[S, R]) ReadsCaller() (reads, needs bool) { return l.keys.ByCaller(), false }

// Expressions implements plugin.Evaluator.
func (l *Limiter[S, R]) Expressions(m *schema.Method) []plugin.Expression {
	return l.keys.Expressions(m)
}

// Keys is the number of keys that the limiter knows.
func (l *Limiter[S, R]) Keys() int { return l.table.len() }

// ConfigOf is a configuration as its plugin's own message.
func ConfigOf[C proto.Message](config proto.Message) (C, error) {
	conf, ok := config.(C)
	if !ok {
		return conf, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	return conf, nil
}

var errNumbers = errors.New("the store answered otherwise than a script does")
