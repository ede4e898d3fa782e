package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
)

// serviceLine is one service in `service list`.
type serviceLine struct {
	Service   string `json:"service"`
	Instances int    `json:"instances"`
	Up        int    `json:"up"`
	Starting  int    `json:"starting"`
	Draining  int    `json:"draining"`
	Down      int    `json:"down"`
	Faulty    int    `json:"faulty"` // entries that readers leave out
}

func serviceList(z *centre) *cobra.Command {
	var layoutName string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the services in ZooKeeper, with how many instances are in which status",
		Long: `List the services in ZooKeeper, with how many instances are in which status. FAULTY are entries that readers leave out;
` + "`causeway service inspect SERVICE`" + ` says why.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := z.layout(layoutName)
			if err != nil {
				return err
			}
			lines := []serviceLine{}
			if err := z.with(cmd.Context(), func(ctx context.Context, conn *zookeeper.Conn) error {
				names, err := conn.Services(ctx, layout)
				if err != nil {
					return err
				}
				for _, name := range names {
					entries, err := conn.Inspect(ctx, layout, name)
					if err != nil {
						return err
					}
					lines = append(lines, count(name, entries))
				}
				return nil
			}); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), lines)
			}
			if len(lines) == 0 {
				_, err := fmt.Fprintln(cmd.ErrOrStderr(), "no services")
				return err
			}
			return table(cmd.OutOrStdout(), "SERVICE\tINSTANCES\tUP\tSTARTING\tDRAINING\tDOWN\tFAULTY", func(row func(...any)) {
				for _, l := range lines {
					row(l.Service, l.Instances, l.Up, l.Starting, l.Draining, l.Down, l.Faulty)
				}
			})
		},
	}
	layoutFlag(cmd, &layoutName)
	z.waits(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func count(service string, entries []zookeeper.Entry) serviceLine {
	l := serviceLine{Service: service}
	for _, e := range entries {
		if e.Fault != nil {
			l.Faulty++
		}
		l.Instances += len(e.Endpoints)
		for _, ep := range e.Endpoints {
			switch ep.Status {
			case registry.Up:
				l.Up++
			case registry.Starting:
				l.Starting++
			case registry.Draining:
				l.Draining++
			case registry.Down:
				l.Down++
			}
		}
	}
	return l
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// change is one line of `service watch`.
type change struct {
	Time     time.Time         `json:"time"`
	Service  string            `json:"service"`
	Event    string            `json:"event"` // there (at the beginning), empty (at the beginning), new, changed, gone, skipped, stale, fresh
	ID       string            `json:"id,omitempty"`
	Address  string            `json:"address,omitempty"`
	Status   string            `json:"status,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Protocol string            `json:"protocol,omitempty"`
	Meta     map[string]string `json:"metadata,omitempty"`
	Changes  []difference      `json:"changes,omitempty"`
	Skipped  int               `json:"skipped,omitempty"` // entries that are left out now
	Error    string            `json:"error,omitempty"`
}

// difference is what has changed of an instance.
type difference struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// String is the line for people.
func (c change) String() string {
	text := fmt.Sprintf("%s  %s  %-7s", c.Time.Format("15:04:05"), c.Service, c.Event)
	switch c.Event {
	case "stale":
		return text + "  " + c.Error + "; what was known last stays"
	case "skipped":
		return text + fmt.Sprintf("  %d entries are left out; `causeway service inspect %s` says why", c.Skipped, c.Service)
	case "empty", "fresh":
		return strings.TrimRight(text, " ")
	}
	text += "  " + c.ID
	if c.Event == "changed" {
		var all []string
		for _, d := range c.Changes {
			all = append(all, fmt.Sprintf("%s %s -> %s", d.Field, cmp.Or(d.From, "none"), cmp.Or(d.To, "none")))
		}
		return text + "  " + strings.Join(all, ", ")
	}
	if c.Address != c.ID {
		text += "  " + c.Address
	}
	if c.Event != "gone" {
		text += "  " + c.Status + "  weight " + strconv.FormatUint(uint64(c.Weight), 10)
		if c.Zone != "" {
			text += "  zone " + c.Zone
		}
	}
	return text
}

func serviceWatch(z *centre) *cobra.Command {
	var layoutName string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [SERVICE...]",
		Short: "Print the instances of services, and every change of them",
		Long: `Print the instances of services, and every change of them, one in a line, until SIGINT or SIGTERM. Without names all
services are watched, those too that come later.

Events: there and empty at the beginning, then new, changed, gone; skipped when entries are left out; stale while ZooKeeper
cannot be asked, and fresh when it can again. It sees what a gateway sees.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			layout, err := z.layout(layoutName)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return z.watch(ctx, layout, args, &printing{w: cmd.OutOrStdout(), asJSON: asJSON})
		},
	}
	layoutFlag(cmd, &layoutName)
	z.waits(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each line as JSON")
	return cmd
}

// printing prints the changes of all services. It is safe for concurrent use.
type printing struct {
	mu     sync.Mutex
	w      io.Writer
	asJSON bool
	failed func(error) // hears of a reader who has gone
}

func (p *printing) print(c change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Time = time.Now()
	line := c.String()
	if p.asJSON {
		raw, err := json.Marshal(c)
		if err != nil {
			p.failed(err)
			return
		}
		line = string(raw)
	}
	if _, err := fmt.Fprintln(p.w, line); err != nil {
		p.failed(err)
	}
}

// watch watches until ctx ends; all services when none is named.
func (z *centre) watch(ctx context.Context, layout zookeeper.Layout, names []string, out *printing) error {
	for _, name := range names {
		if _, err := layout.Places(name); err != nil {
			return usage("%s", clean(err))
		}
	}
	first, cancel := context.WithTimeout(ctx, z.timeout)
	defer cancel()
	r, err := z.reach(cancel)
	if err != nil {
		return err
	}
	defer r.Close()
	all := len(names) == 0
	found, err := r.Services(first, layout) // also to see that ZooKeeper is there
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return r.explain(err)
	}
	if all {
		names = found
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	out.failed = end
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end(nil)
	known := map[string]bool{}
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		for _, name := range names {
			if known[name] {
				continue
			}
			known[name] = true
			watching.Go(func() {
				err := (&zookeeper.Resolver{Conn: r.Conn, Layout: layout}).Watch(ctx, name, &sight{service: name, out: out})
				if err != nil && ctx.Err() == nil {
					end(err)
				}
			})
		}
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return clean(err)
			}
			return nil
		case <-again.C:
		}
		if all {
			short, cancel := context.WithTimeout(ctx, z.timeout)
			if more, err := r.Services(short, layout); err == nil { // else the lines of the services say so
				names = more
			}
			cancel()
		}
	}
}

// sight is a registry.Sink that prints what changes.
type sight struct {
	service string
	out     *printing
	known   bool
	stale   bool
	skipped int
	last    map[string]registry.Endpoint
}

// Update prints the differences to the last set.
func (s *sight) Update(set registry.Set) {
	if s.stale {
		s.out.print(change{Service: s.service, Event: "fresh"})
	}
	now := make(map[string]registry.Endpoint, len(set.Endpoints))
	for _, ep := range set.Endpoints {
		now[ep.ID] = ep
	}
	for _, id := range slices.Sorted(maps.Keys(s.last)) {
		if _, stays := now[id]; !stays {
			s.out.print(s.of(s.last[id], "gone"))
		}
	}
	event := "there"
	if s.known {
		event = "new"
	} else if len(now) == 0 {
		s.out.print(change{Service: s.service, Event: "empty"})
	}
	for _, ep := range set.Endpoints {
		before, had := s.last[ep.ID]
		if !had {
			s.out.print(s.of(ep, event))
		} else if !reflect.DeepEqual(before, ep) {
			c := s.of(ep, "changed")
			c.Changes = differences(before, ep)
			s.out.print(c)
		}
	}
	if set.Skipped != s.skipped {
		s.out.print(change{Service: s.service, Event: "skipped", Skipped: set.Skipped})
	}
	s.known, s.stale, s.skipped, s.last = true, false, set.Skipped, now
}

// Beat is not printed; none is read.
func (*sight) Beat(string, registry.Beat) {}

// Fail prints that the registry is lost.
func (s *sight) Fail(err error) {
	s.stale = true
	s.out.print(change{Service: s.service, Event: "stale", Error: clean(err).Error()})
}

func (s *sight) of(ep registry.Endpoint, event string) change {
	return change{
		Service: s.service, Event: event, ID: ep.ID, Address: ep.Address, Status: ep.Status.String(), Weight: ep.Weight,
		Zone: ep.Zone, Protocol: ep.Protocol, Meta: ep.Meta,
	}
}

// differences are the fields that differ, in a fixed order.
func differences(a, b registry.Endpoint) []difference {
	var d []difference
	add := func(field, from, to string) {
		if from != to {
			d = append(d, difference{field, from, to})
		}
	}
	add("address", a.Address, b.Address)
	add("status", a.Status.String(), b.Status.String())
	add("weight", strconv.FormatUint(uint64(a.Weight), 10), strconv.FormatUint(uint64(b.Weight), 10))
	add("zone", a.Zone, b.Zone)
	add("protocol", a.Protocol, b.Protocol)
	add("tls", strconv.FormatBool(a.TLS), strconv.FormatBool(b.TLS))
	keys := slices.Collect(maps.Keys(a.Meta))
	keys = slices.AppendSeq(keys, maps.Keys(b.Meta))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		add(key, a.Meta[key], b.Meta[key])
	}
	return d
}
