package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
)

func zkCommand() *cobra.Command {
	var address string
	var tick time.Duration
	cmd := &cobra.Command{
		Use:   "zk",
		Short: "Run a small ZooKeeper for development, never for production",
		Long: `Run a development server that speaks ZooKeeper's protocol: one process, everything in memory, gone when it ends.
It is never for production: there, run an ensemble of ZooKeeper's own servers.

Its address is printed on standard output once it serves. It ends on SIGINT and SIGTERM.`,
		Example: "  causeway zk\n  causeway zk --address 127.0.0.1:0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tick < 10*time.Millisecond || tick > time.Minute {
				return usage("--tick %v: want 10ms to 1m", tick)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return serveZooKeeper(ctx, address, tick, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&address, "address", defaultZooKeeper, "HOST:PORT to serve at; port 0 takes a free one")
	cmd.Flags().DurationVar(&tick, "tick", 2*time.Second, "sessions last 2 to 20 ticks")
	return cmd
}

// serveZooKeeper serves until ctx ends.
func serveZooKeeper(ctx context.Context, address string, tick time.Duration, out, errOut io.Writer) error {
	ln, err := net.Listen("tcp", address) //nolint:noctx // binding does not wait
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: does a ZooKeeper run there already? For a free port give --address 127.0.0.1:0", address)
	}
	if err != nil {
		return usage("--address %q: want HOST:PORT of this machine: %s", address, err)
	}
	server := devserver.New(devserver.Config{Tick: tick, Log: slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	fmt.Fprintln(errOut, "a development server in memory, never for production, serves at")
	if at, is := ln.Addr().(*net.TCPAddr); is && !at.IP.IsLoopback() {
		fmt.Fprintln(errOut, "(not only this machine reaches it: whoever does may register addresses of his choice)")
	}
	if _, err = fmt.Fprintln(out, ln.Addr()); err == nil {
		select {
		case <-ctx.Done():
		case err = <-ended:
			return errors.Join(err, server.Close())
		}
	}
	return errors.Join(err, server.Close(), <-ended)
}
