// Package dns resolves services by name: to the addresses (A, AAAA) of a host, or to what its SRV records say.
//
// A name is asked for again and again; Go's resolver does not show how long an answer holds. A name that does not exist, or
// has no such records, is a service without instances; a server that does not answer, or says that it cannot, is an outage.
package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/polling"
)

// Resolver asks for names. A zero field takes the default named; none is changed once it is in use.
type Resolver struct {
	// Target gives what is asked for a service: "host:port" for addresses, "_grpc._tcp.orders.example.com" or any other name
	// without a port for SRV records. Nil: the service's own name is the target.
	Target   func(service string) (string, error)
	Server   string        // host:port of the server to ask; empty: those of the system
	Interval time.Duration // between two questions; 10 s, give or take a tenth
	Timeout  time.Duration // of one question, with all its tries; 5 s
	Most     int           // instances of one service; 10,000. More of them are a Fail
	// Network is "ip4" or "ip6" to take only addresses of that kind; empty: both.
	Network string
}

// Watch reports the instances of a service to to until ctx ends.
func (r *Resolver) Watch(ctx context.Context, service string, to registry.Sink) error {
	target := service
	if r.Target != nil {
		var err error
		if target, err = r.Target(service); err != nil {
			return err
		}
	}
	host, port, err := split(target)
	if err != nil {
		return fmt.Errorf("dns: %s: %w", service, err)
	}
	w := &watch{r: r, host: host, port: port}
	q := &polling.Question{Name: "dns", Interval: r.Interval, Timeout: r.Timeout, Ask: w.ask}
	return q.Watch(ctx, service, to)
}

// split cuts a target into its host and its port, which is empty for SRV records.
func split(target string) (host, port string, err error) {
	host = target
	if strings.Contains(target, ":") {
		if host, port, err = net.SplitHostPort(target); err != nil {
			return "", "", fmt.Errorf("want a target as host:port or as a name, found %q: %w", target, err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", fmt.Errorf("want a port within 1 to 65535, found %q", port)
		}
	}
	if host == "" || len(host) > 254 || strings.ContainsAny(host, "/ \t\r\n\x00") {
		return "", "", fmt.Errorf("want a name to ask for, found %q", host)
	}
	return host, port, nil
}

// watch is one call of Watch.
type watch struct {
	r          *Resolver
	host, port string
}

// question is one use of Go's resolver, which goes on asking in the background when nobody waits any more.
type question struct {
	server string

	mu    sync.Mutex
	conns []net.Conn
	over  bool
}

func (q *question) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if q.server != "" {
		address = q.server
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	q.conns = append(q.conns, c)
	return c, nil
}

// end ends what is still asked.
func (q *question) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	for _, c := range q.conns {
		_ = c.Close()
	}
}

// ask asks once. The endpoints are sorted and known by their addresses.
func (w *watch) ask(ctx context.Context) (endpoints []registry.Endpoint, skipped int, err error) {
	q := &question{server: w.r.Server}
	defer q.end()
	asked := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: q.dial}
	if w.port != "" {
		endpoints, err = w.addresses(ctx, asked)
	} else {
		endpoints, err = w.records(ctx, asked)
	}
	var none *net.DNSError
	if errors.As(err, &none) && none.IsNotFound {
		return []registry.Endpoint{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if most := cmp.Or(w.r.Most, 10_000); len(endpoints) > most {
		return nil, 0, fmt.Errorf("want at most %d instances, found %d", most, len(endpoints))
	}
	slices.SortFunc(endpoints, func(a, b registry.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(endpoints, func(a, b registry.Endpoint) bool { return a.ID == b.ID }), 0, nil
}

func (w *watch) addresses(ctx context.Context, asked *net.Resolver) ([]registry.Endpoint, error) {
	found, err := asked.LookupNetIP(ctx, cmp.Or(w.r.Network, "ip"), w.host)
	endpoints := make([]registry.Endpoint, 0, len(found))
	for _, a := range found {
		address := net.JoinHostPort(a.Unmap().String(), w.port)
		endpoints = append(endpoints, registry.Endpoint{ID: address, Address: address, Weight: 100})
	}
	return endpoints, err
}

// records gives SRV records: of several at one address, the first by priority holds.
func (w *watch) records(ctx context.Context, asked *net.Resolver) ([]registry.Endpoint, error) {
	_, found, err := asked.LookupSRV(ctx, "", "", w.host)
	if err != nil && len(found) == 0 {
		return nil, err // else some of the records are malformed, and the others hold
	}
	endpoints := make([]registry.Endpoint, 0, len(found))
	for _, r := range found {
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" || r.Port == 0 {
			continue // "." says that the service is decidedly not there
		}
		address := net.JoinHostPort(host, strconv.Itoa(int(r.Port)))
		endpoints = append(endpoints, registry.Endpoint{
			ID: address, Address: address,
			Weight: max(uint32(r.Weight), 1), // 0 is a small share, not none (RFC 2782)
			Meta:   map[string]string{"priority": strconv.Itoa(int(r.Priority))},
		})
	}
	return endpoints, nil
}
