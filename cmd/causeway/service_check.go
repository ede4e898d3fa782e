package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/causeway-gateway/causeway/proxy/health"
)

// check is how `service register` finds out whether the instance is well.
type check struct {
	kind    string // grpc, http, tcp or none
	address string // host:port
	path    string // of http
	service string // of grpc; empty: the server as a whole
	secure  bool

	failures int // in a row, after which an instance that was well is not
	failed   int
	well     bool
	prober   health.Prober // nil for none
}

func checkKinds() []string { return []string{"grpc", "http", "tcp", "none"} }

// tls is for checks alone: what answers is asked whether it lives, not who it is, and told nothing. A sidecar asks at
// 127.0.0.1, for which certificates hold no name.
func (c *check) tls() *tls.Config {
	if !c.secure {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
}

// open prepares the prober; nothing is asked yet.
func (c *check) open() (err error) {
	switch c.kind {
	case "tcp":
		c.prober, err = health.TCP(c.address, c.tls())
	case "http":
		any200 := health.HTTPCheck{Path: "/" + strings.TrimPrefix(c.path, "/"), Statuses: []health.StatusRange{{From: 200, To: 399}}}
		if err := any200.Fault(); err != nil {
			return usage("--check-path %q: %s", c.path, strings.TrimPrefix(err.Error(), "health: "))
		}
		c.prober, err = health.HTTP(c.address, any200, c.tls())
	case "grpc":
		c.prober, err = health.GRPC(c.address, health.GRPCCheck{Service: c.service}, c.tls())
	}
	if err != nil {
		return usage("--check-address %q: %s", c.address, strings.TrimPrefix(err.Error(), "health: "))
	}
	return nil
}

func (c *check) close() {
	if c.prober != nil {
		c.prober.Close()
	}
}

// ask is for a Registrar's Health: one failure among successes is none. It is not safe for concurrent use.
func (c *check) ask(ctx context.Context) error {
	err := c.prober.Probe(ctx)
	if err == nil {
		c.failed, c.well = 0, true
		return nil
	}
	if c.failed++; c.well && c.failed < c.failures {
		return nil
	}
	c.well = false
	return fmt.Errorf("%s check of %s: %w", c.kind, c.address, err)
}
