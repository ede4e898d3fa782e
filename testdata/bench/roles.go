package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// The bench starts itself again as each process that it needs: `bench role NAME flags`. A role listens on a free port of
// the loopback, tells its address on standard output and ends when its standard input does, that is when the bench ends,
// however it ends.
const (
	roleFloor   = "floor"
	roleCanned  = "canned"
	roleBackend = "backend"
	rolePeer    = "gateway-peer"
	roleGRPC    = "grpc-peer"

	listening = "listening "
)

func complain(who string, err error) { fmt.Fprintf(os.Stderr, "bench: %s: %v\n", who, err) }

// runRole serves one role until standard input ends.
func runRole(args []string) error {
	flags := flag.NewFlagSet("role", flag.ContinueOnError)
	var (
		scenarioName = flags.String("scenario", "post", "what the floor answers")
		target       = flags.String("backend", "", "where grpc-gateway and the gRPC proxy lead to")
		extra        = flags.Int("extra", 0, "how many more routes grpc-gateway has")
		certFile     = flags.String("cert", "", "with it the listener speaks TLS: PEM file with the certificate")
		keyFile      = flags.String("key", "", "PEM file with its private key")
	)
	if len(args) == 0 {
		return fmt.Errorf("want a role: %s, %s, %s, %s or %s", roleFloor, roleCanned, roleBackend, rolePeer, roleGRPC)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var cert *tls.Certificate
	if *certFile != "" {
		pair, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		if err != nil {
			return err
		}
		cert = &pair
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, listening+l.Addr().String()); err != nil {
		return err
	}
	switch args[0] {
	case roleFloor:
		all, err := scenarios()
		if err != nil {
			return err
		}
		for _, sc := range all {
			if sc.name != *scenarioName {
				continue
			}
			if cert != nil {
				l = tls.NewListener(l, serverTLS(cert))
			}
			c := sc.entrants[0].call // the floor's
			return floor(ctx, l, c.status, c.answer)
		}
		return fmt.Errorf("no scenario %q", *scenarioName)
	case roleCanned:
		c, err := newCanned()
		if err != nil {
			return err
		}
		return c.serve(ctx, l)
	case roleBackend:
		return backend(ctx, l)
	case rolePeer:
		return gatewayPeer(ctx, l, cert, *target, *extra)
	case roleGRPC:
		return grpcPeer(ctx, l, *target)
	default:
		return fmt.Errorf("no role %q", args[0])
	}
}

// readAddress reads the line in which a role tells where it listens.
func readAddress(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("it ended before it listened: %w", err)
	}
	address, ok := strings.CutPrefix(strings.TrimSpace(line), listening)
	if !ok {
		return "", fmt.Errorf("want %q and its address, got %q", listening, line)
	}
	return address, nil
}
