package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
)

// serviceView is what `service inspect` prints.
type serviceView struct {
	Service string            `json:"service"`
	Layout  string            `json:"layout"`
	Nodes   []nodeView        `json:"nodes"`
	Gateway []json.RawMessage `json:"gateway,omitempty"` // as it says them
}

// nodeView is one node of a service.
type nodeView struct {
	Node      string         `json:"node"`
	ID        string         `json:"id"`
	Session   string         `json:"session,omitempty"` // none: the node outlives its instance
	Czxid     string         `json:"czxid"`
	Mzxid     string         `json:"mzxid"`
	Version   int32          `json:"version"`
	Created   time.Time      `json:"created"` // by ZooKeeper's clock, like modified and beat
	Modified  time.Time      `json:"modified"`
	Beat      *beatView      `json:"beat,omitempty"`
	Data      any            `json:"data"` // JSON as it is, else as text
	Instances []instanceView `json:"instances"`
	Fault     string         `json:"fault,omitempty"` // why readers leave it out, or a part of it
}

type beatView struct {
	At   time.Time `json:"at"`
	Age  float64   `json:"age_seconds"`
	Load *float64  `json:"load,omitempty"`
}

// instanceView is what a reader makes of a node.
type instanceView struct {
	ID         string            `json:"id"`
	Address    string            `json:"address"`
	Protocol   string            `json:"protocol,omitempty"`
	TLS        bool              `json:"tls,omitempty"`
	Status     string            `json:"status"`
	Weight     uint32            `json:"weight"`
	Zone       string            `json:"zone,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	TakesCalls bool              `json:"takes_calls"`
	Why        string            `json:"why,omitempty"` // it takes none, or only under a condition
}

func serviceInspect(z *centre) *cobra.Command {
	var layoutName string
	var asJSON bool
	var c client
	cmd := &cobra.Command{
		Use:   "inspect SERVICE [ID]",
		Short: "Show the nodes of a service's instances, and why each is used or not",
		Long: `Show the nodes of a service's instances as they are in ZooKeeper, and why a reader uses each or leaves it out; with an ID
or an address, everything of that one. Times are by ZooKeeper's clock.

With --admin (or CAUSEWAY_ADMIN) a gateway is asked, too: what it knows of the service, from all its registries, with
health, ejections, effective weights, and why it sends calls to an instance or does not.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			layout, err := z.layout(layoutName)
			if err != nil {
				return err
			}
			if _, err := layout.Places(args[0]); err != nil {
				return usage("%s", clean(err))
			}
			c.timeout = z.timeout
			id := ""
			if len(args) > 1 {
				id = args[1]
			}
			return inspect(cmd, z, &c, layout, layoutName, args[0], id, asJSON)
		},
	}
	layoutFlag(cmd, &layoutName)
	z.waits(cmd)
	cmd.Flags().StringVar(&c.address, "admin", os.Getenv("CAUSEWAY_ADMIN"), "`address` of a gateway's admin listener, to show its view, too (environment: CAUSEWAY_ADMIN)")
	cmd.Flags().StringVar(&c.tokenFile, "token-file", "", "`file` with the admin token; default: CAUSEWAY_TOKEN in the environment, then .causeway/admin.token")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// inspect shows what ZooKeeper has and what a gateway says. One of them may fail: then the other is shown, and the command
// fails nevertheless.
func inspect(cmd *cobra.Command, z *centre, c *client, layout zookeeper.Layout, layoutName, service, id string, asJSON bool) error {
	now := time.Now()
	view := serviceView{Service: service, Layout: layoutName, Nodes: []nodeView{}}
	var gateway []gatewayService
	var asked error
	if c.address != "" {
		gateway, asked = c.services(cmd.Context(), service)
		for _, g := range gateway {
			view.Gateway = append(view.Gateway, g.raw)
		}
	}
	var entries []zookeeper.Entry
	err := z.with(cmd.Context(), func(ctx context.Context, conn *zookeeper.Conn) (err error) {
		if entries, err = conn.Inspect(ctx, layout, service); err != nil {
			return err
		}
		if id != "" && len(entries) > 0 {
			e, err := entryOf(entries, service, id)
			entries = []zookeeper.Entry{e}
			return err
		}
		if len(entries) > 0 {
			return nil
		}
		return noInstance(ctx, conn, layout, service)
	})
	if err != nil {
		entries = nil
		if len(gateway) == 0 {
			return cmp.Or(err, asked)
		}
		// What a gateway has from elsewhere need not be in ZooKeeper.
		if _, missing := errors.AsType[*notThere](err); missing && id == "" || !z.named(cmd) {
			if _, e := fmt.Fprintln(cmd.ErrOrStderr(), "not in ZooKeeper:", err); e != nil {
				return e
			}
			err = nil
		}
	}
	for _, e := range entries {
		view.Nodes = append(view.Nodes, viewOf(e, now))
	}
	out := cmd.OutOrStdout()
	switch {
	case asJSON:
		err = errors.Join(err, writeJSON(out, view))
	case id != "" && len(entries) == 1:
		err = errors.Join(err, view.Nodes[0].write(out, now))
	case len(entries) > 0:
		err = errors.Join(err, writeNodes(out, view.Nodes, now))
	}
	if !asJSON {
		for _, g := range gateway {
			err = errors.Join(err, g.write(out, c.address, id, entries))
		}
	}
	return errors.Join(err, asked)
}

func viewOf(e zookeeper.Entry, now time.Time) nodeView {
	v := nodeView{
		Node: e.Path, ID: e.Name, Version: e.Version, Created: e.Created, Modified: e.Modified,
		Czxid: asHex(e.Czxid), Mzxid: asHex(e.Mzxid), Data: string(e.Data), Instances: []instanceView{},
	}
	if e.Owner != 0 {
		v.Session = asHex(e.Owner)
	}
	if json.Valid(e.Data) {
		v.Data = json.RawMessage(e.Data)
	}
	if !e.Beat.IsZero() {
		v.Beat = &beatView{At: e.Beat, Age: age(now, e.Beat).Seconds()}
		if e.Load >= 0 {
			v.Beat.Load = &e.Load
		}
	}
	if e.Fault != nil {
		v.Fault = clean(e.Fault).Error()
	}
	for _, ep := range e.Endpoints {
		i := instanceView{
			ID: ep.ID, Address: ep.Address, Protocol: ep.Protocol, TLS: ep.TLS, Status: ep.Status.String(), Weight: ep.Weight,
			Zone: ep.Zone, Metadata: ep.Meta,
		}
		i.TakesCalls, i.Why = takesCalls(ep)
		v.Instances = append(v.Instances, i)
	}
	return v
}

// takesCalls is what the registry alone says; a gateway also has its own health checks.
func takesCalls(ep registry.Endpoint) (takes bool, why string) {
	switch {
	case ep.Status == registry.Starting:
		return false, "its own check has not passed yet"
	case ep.Status == registry.Draining:
		return false, "draining, calls in flight end as they would"
	case ep.Status != registry.Up:
		return false, "down by its own check, or by an operator"
	case ep.Weight == 0:
		return false, "its weight is 0"
	case ep.Unverified:
		return true, "once an active check has passed: its node outlives it"
	}
	return true, ""
}

func asHex(n int64) string { return "0x" + strconv.FormatUint(uint64(n), 16) } //nolint:gosec // as ZooKeeper prints it

// age is how long ago something was; clocks that differ do not make it negative.
func age(now, then time.Time) time.Duration { return max(now.Sub(then), 0) }

// ago is an age as people say it.
func ago(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return withoutZero(d.Round(time.Second))
	case d < 48*time.Hour:
		return withoutZero(d.Round(time.Minute))
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// withoutZero leaves seconds out that are none: 1m, 1h0m, but 4m10s.
func withoutZero(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}

func dash(s string) string { return cmp.Or(s, "-") }

// note is what a reader does with a node, in a few words.
func (v *nodeView) note(i *instanceView) string {
	var notes []string
	switch {
	case i == nil:
		return "left out: " + v.Fault
	case i.Why != "" && i.TakesCalls:
		notes = append(notes, "used "+i.Why)
	case i.Why != "":
		notes = append(notes, "no new calls: "+i.Why)
	}
	if v.Fault != "" {
		notes = append(notes, "a part is left out: "+v.Fault)
	}
	return strings.Join(notes, "; ")
}

func (v *nodeView) beat() (how, load string) {
	if v.Beat == nil {
		return "-", "-"
	}
	load = "-"
	if v.Beat.Load != nil {
		load = strconv.FormatFloat(*v.Beat.Load, 'f', 2, 64)
	}
	return ago(time.Duration(v.Beat.Age * float64(time.Second))), load
}

// writeNodes prints a line for each instance.
func writeNodes(w io.Writer, nodes []nodeView, now time.Time) error {
	return table(w, "ID\tADDRESS\tSTATUS\tWEIGHT\tZONE\tAGE\tBEAT\tLOAD\tSESSION\tNOTE", func(row func(...any)) {
		for _, v := range nodes {
			beat, load := v.beat()
			old := ago(age(now, v.Created))
			if len(v.Instances) == 0 && v.Fault != "" {
				row(v.ID, "-", "-", "-", "-", old, beat, load, dash(v.Session), oneLine(v.note(nil)))
			}
			for n, i := range v.Instances {
				note := v.note(&i)
				if n > 0 { // the fault is the node's, and is said once
					note = (&nodeView{}).note(&i)
				}
				row(i.ID, i.Address, i.Status, i.Weight, dash(i.Zone), old, beat, load, dash(v.Session), dash(oneLine(note)))
			}
		}
	})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// write prints everything of one node.
func (v *nodeView) write(w io.Writer, now time.Time) error {
	var b bytes.Buffer
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("node", "%s", v.Node)
	if v.Session == "" {
		line("session", "none: the node stays when its program dies")
	} else {
		line("session", "%s; the node goes when that ends", v.Session)
	}
	line("created", "%s, %s ago, czxid %s", v.Created.UTC().Format(time.RFC3339), ago(age(now, v.Created)), v.Czxid)
	line("written", "%s, %s ago, mzxid %s, version %d", v.Modified.UTC().Format(time.RFC3339), ago(age(now, v.Modified)), v.Mzxid, v.Version)
	if v.Beat == nil {
		line("beat", "none")
	} else {
		beat, load := v.beat()
		if v.Beat.Load == nil {
			load = "not stated"
		}
		line("beat", "%s ago, load %s", beat, load)
	}
	for _, i := range v.Instances {
		speaks := dash(i.Protocol)
		if i.TLS {
			speaks += " over TLS"
		}
		line("instance", "%s", i.ID)
		line("address", "%s, %s", i.Address, speaks)
		line("status", "%s", i.Status)
		line("weight", "%d", i.Weight)
		if i.Zone != "" {
			line("zone", "%s", i.Zone)
		}
		for _, key := range slices.Sorted(maps.Keys(i.Metadata)) {
			line("metadata", "%s=%s", key, i.Metadata[key])
		}
		use := "takes calls"
		if n := (&nodeView{}).note(&i); n != "" {
			use = n
		}
		line("use", "%s", use)
	}
	if v.Fault != "" {
		line("left out", "%s", v.Fault)
	}
	switch data := v.Data.(type) {
	case json.RawMessage:
		var pretty bytes.Buffer
		if json.Indent(&pretty, data, "           ", "  ") != nil {
			pretty.Write(data)
		}
		line("data", "%s", pretty.String())
	case string:
		line("data", "%q", data)
	}
	_, err := w.Write(b.Bytes())
	return err
}
