package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func serviceDrain(z *centre) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain SERVICE ID...",
		Short: "Keep new calls away from instances, until undrain",
		Long: `Write the status "draining" to instances: gateways send them no new calls, those in flight end as they would. An
instance keeps to it until ` + "`causeway service undrain`" + `, also over a new session. ID may be the address.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return z.order(cmd, args[0], args[1:], registry.Draining)
		},
	}
	z.waits(cmd)
	return cmd
}

func serviceUndrain(z *centre) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "undrain SERVICE ID...",
		Short: "Let new calls come to instances again",
		Long: `Take a drain back. What an instance says of itself comes before: one that drains because it is being stopped, or is
down by its own check, stays so, and this command says it. ID may be the address.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return z.order(cmd, args[0], args[1:], registry.Up) },
	}
	z.waits(cmd)
	return cmd
}

// order writes a status to instances and prints what came of it.
func (z *centre) order(cmd *cobra.Command, service string, names []string, status registry.Status) error {
	layout, err := z.layout("native")
	if err != nil {
		return err
	}
	if _, err := layout.Places(service); err != nil {
		return usage("%s", clean(err))
	}
	return z.with(cmd.Context(), func(ctx context.Context, conn *zookeeper.Conn) error {
		entries, err := conn.Inspect(ctx, layout, service)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return noInstance(ctx, conn, layout, service)
		}
		for _, name := range names { // all are known before one is written
			if _, err := entryOf(entries, service, name); err != nil {
				return err
			}
		}
		for _, name := range names {
			e, err := entryOf(entries, service, name)
			if err != nil {
				return err
			}
			if err := conn.Order(ctx, service, e.Name, status); err != nil {
				return err
			}
			became, err := z.became(ctx, conn, service, e.Name, status)
			if err != nil {
				return err
			}
			if became != status.String() && became != gone {
				became += ", which it says of itself"
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s (was %s)\n", service, e.Name, became, statusOf(e)); err != nil {
				return err
			}
		}
		return nil
	})
}

// gone is what is said of an instance that has left.
const gone = "gone meanwhile"

// became is the status of an instance after an order. One that has its own mind says so within moments, for it watches its
// node.
func (z *centre) became(ctx context.Context, conn *zookeeper.Conn, service, id string, ordered registry.Status) (string, error) {
	const patience, step = time.Second, 50 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for waited := time.Duration(0); ; waited += step {
		e, err := conn.InspectInstance(ctx, service, id)
		if err != nil {
			return "", err
		}
		if e.Path == "" {
			return gone, nil
		}
		if now := statusOf(e); now != ordered.String() || ordered != registry.Up || waited >= patience {
			return now, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// statusOf is an entry's status; that of a faulty one is not known.
func statusOf(e zookeeper.Entry) string {
	if len(e.Endpoints) == 0 {
		return "faulty"
	}
	return e.Endpoints[0].Status.String()
}

// entryOf finds an instance by its id or its address.
func entryOf(entries []zookeeper.Entry, service, name string) (zookeeper.Entry, error) {
	var names []string
	for _, e := range entries {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	for _, e := range entries {
		for _, ep := range e.Endpoints {
			if ep.Address == name || ep.ID == name {
				return e, nil
			}
			names = append(names, ep.Address)
		}
	}
	hint := schema.DidYouMean(name, names)
	if hint == "" {
		hint = "; `causeway service inspect " + service + "` lists those that are"
	}
	return zookeeper.Entry{}, fmt.Errorf("%s has no instance %q%s", service, name, hint)
}

// noInstance is the error for a service without any instance.
func noInstance(ctx context.Context, conn *zookeeper.Conn, layout zookeeper.Layout, service string) error {
	names, err := conn.Services(ctx, layout)
	if err != nil {
		return err
	}
	if slices.Contains(names, service) {
		return notThereErr("%s has no instances", service)
	}
	return unknownService(ctx, conn, layout, service)
}
