package proxy

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Snapshot is one configuration, built: all that a call reads. It never changes; a change is a new one.
type Snapshot struct {
	Revision int64 // counts the snapshots of this process
	Built    time.Time
	Doc      *config.Document

	schemas    map[string]*loaded
	services   map[string]*service
	plugins    map[string]*instance // by scope, name and configuration; taken over by the next snapshot
	stores     map[string]*openStore
	registries map[string]*openRegistry
	routes     []*route
	levels     []*level               // of requests that match a rule, by falling priority
	named      []*level               // of requests that name the method by their path
	targets    []placed               // all of them, as the configuration has them
	inlets     map[string]*inletTable // of listeners that do not speak HTTP, by inletKey
	nobody     *route                 // what a request without a route passes: the global plugins' ends
	lenient    bool                   // requests find their route as with grpc-gateway

	consumers       map[string]*consumer
	consumerPlugins bool           // some consumer has plugins
	preflights      bool           // some plugin answers CORS preflights
	trusted         []netip.Prefix // the proxies that say who calls
	outbound        []netip.Prefix // what the gateway may call for itself beside public addresses
	fetch           plugin.Fetcher // nil: nothing
	export          *export        // nil: nothing is sent

	warnings []*config.Fault
}

// route is one built route: calls enter its gate, so that what it uses is closed only after they have left.
type route struct {
	rpcadapters.Options
	gate       rpc.Gate
	priority   int64
	hosts      []string
	conditions []condition
	handler    rpc.Handler
	finish     finishers
	dressers   []plugin.Dresser
	scripted   []string           // headers of requests that its plugins read and scripts may send
	preflight  plugin.Preflighter // nil: none
	snap       *Snapshot
	chain      []string // the plugins, outermost first
	members    []*member
	retries    *retries // nil: the gateway itself answers
	service    *service
	path       string // of the route in the document, for faults: "routes[2]"
}

// target is what a match leads to: a method on one route, by one of its rules or by its name.
type target struct {
	route  *route
	method *schema.Method
	rule   *rpcadapters.Rule // nil: by its name
	order  int
}

// level holds the targets of one priority.
type level struct {
	priority int64
	any      *targets
	exact    map[string]*targets
	suffix   map[string]*targets // ".example.com" for the host pattern *.example.com
}

type targets = httprule.Tree[*target, *wire.Exchange]

// admit tells whether a target's conditions hold for a request. It is called while a tree is walked.
func admit(t *target, x *wire.Exchange) bool {
	for i := range t.route.conditions {
		c := &t.route.conditions[i]
		if x.Preflight && !c.promised(x.HTTP.Header) || !x.Preflight && !c.holds(x.HTTP.Header) {
			return false
		}
	}
	return true
}

// find finds the target of a request with a verb; what the template captured is appended to vars.
func (s *Snapshot) find(x *wire.Exchange, verb string, vars []string) (*target, []string, bool) {
	var t *target
	var ok bool
	if s.lenient {
		t, vars, ok = s.findLeniently(x, verb, vars)
	} else {
		t, vars, ok = match(s.levels, x, verb, x.HTTP.Path, vars)
	}
	if !ok && verb == "GET" && x.Proto == "HTTP/1.1" && rpc.EqualFold(x.HTTP.Header.Get("upgrade"), "websocket") {
		return s.findSocket(x, vars)
	}
	return t, vars, ok
}

// findSocket finds the target of a request for a WebSocket, which is a GET whatever the verb of the rule is: browsers send
// no other. It is a streaming method, whose requests come in messages.
func (s *Snapshot) findSocket(x *wire.Exchange, vars []string) (*target, []string, bool) {
	t, vars, ok := match(s.levels, x, "POST", x.HTTP.Path, vars)
	if !ok || t.method.Kind == schema.Unary {
		return nil, vars[:0], false
	}
	return t, vars, true
}

// findNamed finds the target of a request whose path names the method.
func (s *Snapshot) findNamed(x *wire.Exchange) (*target, bool) {
	t, _, ok := match(s.named, x, "POST", x.HTTP.Path, nil)
	return t, ok
}

// match finds the target for a verb and the path that x.Segments are of.
func match(levels []*level, x *wire.Exchange, verb, path string, vars []string) (*target, []string, bool) {
	for _, l := range levels {
		if len(l.exact) > 0 {
			if t := l.exact[x.HTTP.Host]; t != nil {
				if v, vars, ok := t.MatchPath(verb, path, x.Segments, x, vars); ok {
					return v, vars, true
				}
			}
		}
		if len(l.suffix) > 0 {
			for host := x.HTTP.Host; ; {
				i := strings.IndexByte(host, '.')
				if i < 0 {
					break
				}
				if t := l.suffix[host[i:]]; t != nil {
					if v, vars, ok := t.MatchPath(verb, path, x.Segments, x, vars); ok {
						return v, vars, true
					}
				}
				host = host[i+1:]
			}
		}
		if l.any != nil {
			if v, vars, ok := l.any.MatchPath(verb, path, x.Segments, x, vars); ok {
				return v, vars, true
			}
		}
	}
	return nil, vars, false
}

// verbs lists the verbs that would have matched the path of x, sorted.
func (s *Snapshot) verbs(x *wire.Exchange) []string {
	found := map[string]bool{}
	for _, l := range s.levels {
		for _, t := range l.treesOf(x.HTTP.Host) {
			for _, v := range t.Verbs(x.Segments, x) {
				found[v] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// treesOf are the trees that answer for host, the most specific first.
func (l *level) treesOf(host string) []*targets {
	var trees []*targets
	if t := l.exact[host]; t != nil {
		trees = append(trees, t)
	}
	for rest := host; ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		if t := l.suffix[rest[i:]]; t != nil {
			trees = append(trees, t)
		}
		rest = rest[i+1:]
	}
	if l.any != nil {
		trees = append(trees, l.any)
	}
	return trees
}

// condition is one on a request header.
type condition struct {
	name   string // lower case
	kind   conditionKind
	value  string
	regexp *regexp.Regexp
}

type conditionKind uint8

const (
	isExactly conditionKind = iota
	hasPrefix
	fitsRegexp
	isPresent
	isAbsent
)

func (c *condition) holds(header rpc.Metadata) bool {
	for i := range header {
		if header[i].Key != c.name {
			continue
		}
		v := header[i].Value
		switch c.kind {
		case isExactly:
			if v == c.value {
				return true
			}
		case hasPrefix:
			if strings.HasPrefix(v, c.value) {
				return true
			}
		case fitsRegexp:
			if c.regexp.MatchString(v) {
				return true
			}
		case isPresent:
			return true
		case isAbsent:
			return false
		}
	}
	return c.kind == isAbsent
}

// String says the condition as explain and collisions show it; it is also what tells two sets of conditions apart.
func (c *condition) String() string {
	switch c.kind {
	case isExactly:
		return "header " + c.name + " is " + c.value
	case hasPrefix:
		return "header " + c.name + " begins with " + c.value
	case fitsRegexp:
		return "header " + c.name + " matches " + c.value
	case isPresent:
		return "header " + c.name + " is present"
	case isAbsent:
	}
	return "header " + c.name + " is absent"
}
