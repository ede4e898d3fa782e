package accesslog

import (
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// writer makes lines, one at a time. It keeps what lines have in common: the second they were made in, and the runs of
// fields that repeat from call to call.
type writer struct {
	mu     sync.Mutex
	line   []byte
	second int64
	stamp  []byte
	missed uint
	agent  string // of the call at hand
	fetch  byte
	kept   [keeps]*kept
}

// touch reads from those parts of the request's head that the line will have. It was written before the upstream was asked,
// and is not in the processor's caches any more: fetched now, all at once, the parts are there when they are copied.
func (w *writer) touch(c *rpc.Call) {
	if w.agent = userAgent(c); w.agent != "" {
		w.fetch = w.agent[0]
	}
	if c.HTTP != nil && c.HTTP.Path != "" {
		w.fetch ^= c.HTTP.Path[0]
	}
}

// keeps is how many combinations of repeating values are kept; they give way to each other.
const keeps = 256

// repeating are the values of the fields that repeat.
type repeating struct {
	protocol, verb, scheme, host, route, service, method, node, consumer string

	status int
	code   codes.Code
}

// kept is how the runs of a layout look for one combination.
type kept struct {
	of   repeating
	text [][]byte
}

func repeatingOf(c *rpc.Call, sent *rpc.Sent) (r repeating) {
	r.protocol, r.route, r.service, r.node, r.status, r.code = c.Protocol, c.Route, c.Service, c.Node, sent.Status, sent.Code
	if c.HTTP != nil {
		r.verb, r.scheme, r.host = c.HTTP.Method, c.HTTP.Scheme, c.HTTP.Host
	}
	if c.Method != nil {
		r.method = c.Method.Name
	}
	if c.Consumer != nil {
		r.consumer = c.Consumer.Name
	}
	return r
}

// place is where a combination is kept. What often differs counts: the end of the method, of the route and of the node.
func (r *repeating) place() uint {
	h := uint(r.code)*7 + uint(r.status)*3 + uint(len(r.method))*31 + uint(len(r.route))*131 + uint(len(r.host))*17 + uint(len(r.protocol))
	for _, s := range [...]string{r.method, r.route, r.node, r.consumer} {
		if n := len(s); n >= 2 {
			h = h*33 + uint(s[n-1]) + uint(s[n-2])<<3
		}
	}
	return (h ^ h>>8 ^ h>>16) % keeps
}

// own makes a copy that outlives the call, all in one piece: looked at for every call, it takes few lines of the caches.
func (r *repeating) own() repeating {
	n := *r
	fields := [...]*string{&n.protocol, &n.verb, &n.scheme, &n.host, &n.route, &n.service, &n.method, &n.node, &n.consumer}
	var all strings.Builder
	for _, s := range fields {
		all.WriteString(*s)
	}
	piece := all.String()
	for _, s := range fields {
		*s, piece = piece[:len(*s)], piece[len(*s):]
	}
	return n
}

// appendRun appends a run of fields. The writer is locked.
func (w *writer) appendRun(b []byte, l *layout, s *step, c *rpc.Call, sent *rpc.Sent) []byte {
	r := repeatingOf(c, sent)
	at := r.place()
	if k := w.kept[at]; k != nil && k.of == r {
		return append(b, k.text[s.slot]...)
	}
	// What comes once is not kept: of what is new, every eighth is, so that a flood of hosts that nobody has asked for before
	// costs little and what comes often is soon here.
	if w.missed++; w.missed%8 == 1 {
		k := &kept{of: r.own(), text: make([][]byte, l.runs)}
		size := 0
		for i := range l.steps {
			if run := &l.steps[i]; run.run != nil {
				k.text[run.slot] = l.appendRun(nil, run.run, c, sent)
				size += len(k.text[run.slot])
			}
		}
		if size <= maxKeptText {
			w.kept[at] = k
		}
	}
	return l.appendRun(b, s.run, c, sent)
}

// maxKeptText bounds what one combination may hold: the host is the caller's word.
const maxKeptText = 1024

// appendTime appends t. The writer is locked.
func (w *writer) appendTime(b []byte, t time.Time) []byte {
	if unix := t.Unix(); unix != w.second || len(w.stamp) == 0 {
		w.second, w.stamp = unix, appendSecond(w.stamp[:0], t)
	}
	return appendMicros(append(b, w.stamp...), t)
}
