package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// place is a network of its own, with one address, joined to that of the tests.
type place struct {
	t              testing.TB
	name           string
	here, there    string // addresses of either side
	ip, inside, up string // programs and devices
}

func startPlace(t testing.TB) *place {
	t.Helper()
	id := strconv.Itoa(os.Getpid() % 10_000)
	p := &place{t: t, name: "proof" + id, here: "10.231.77.1", there: "10.231.77.2", ip: realserver.Need(t, "ip", "iproute2"), up: "proofa" + id, inside: "proofb" + id}
	if out, err := p.run("netns", "add", p.name); err != nil {
		realserver.Missing(t, "network namespaces: "+out, "iproute2, as root", err)
	}
	t.Cleanup(func() { _, _ = p.run("netns", "del", p.name) }) // and the devices with it
	for _, args := range [][]string{
		{"link", "add", p.up, "type", "veth", "peer", "name", p.inside},
		{"link", "set", p.inside, "netns", p.name},
		{"addr", "add", p.here + "/30", "dev", p.up},
		{"link", "set", p.up, "up"},
		{"-n", p.name, "addr", "add", p.there + "/30", "dev", p.inside},
		{"-n", p.name, "link", "set", p.inside, "up"},
		{"-n", p.name, "link", "set", "lo", "up"},
	} {
		p.must(args...)
	}
	return p
}

func (p *place) run(args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), p.ip, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p *place) must(args ...string) {
	p.t.Helper()
	if out, err := p.run(args...); err != nil {
		p.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// proofPartition cuts an instance off from the gateway and the registry, in either direction: it is out within 3 s, no
// idempotent call fails, and it is back by itself. It needs to be root, so it has no short form: there, a process that stands
// still is as silent.
func proofPartition(t *testing.T) {
	const session = 6 * time.Second
	zk := realserver.StartZooKeeper(t)
	far := startPlace(t)
	args := []string{"-session", session.String()}
	startInstances(t, 3, zk.Address, args...)
	near := startTap(t, far.here, zk.Address)
	p := &instanceProcess{t: t, name: "far", out: &syncBuffer{}}
	binary, err := exec.LookPath(instanceCommand)
	if err != nil {
		t.Fatal(err)
	}
	p.run(exec.CommandContext(t.Context(), far.ip, append([]string{"netns", "exec", far.name, binary, "-zookeeper", near.ln.Addr().String(), "-name", p.name, "-address", far.there + ":0"}, args...)...))
	dir := t.TempDir()
	g, err := tryGateway(t, dir, proofConfig(t, dir, zk.Address, session, checked()))
	if err != nil {
		t.Fatal(err)
	}
	c := startCallers(t, strings.TrimPrefix(g.url, "http://"))
	await(t, "all instances", func() bool { return g.used() == 4 })
	l := load.Start(300, patient, c.idempotent()...)
	defer l.Stop()
	passes(t, l, 1500)
	for what, route := range map[string][]string{
		"answers are lost":  {"-n", far.name, "route", "%", "blackhole", far.here + "/32"},
		"requests are lost": {"route", "%", "blackhole", far.there + "/32"},
	} {
		change := func(verb string) {
			t.Helper()
			args := append([]string(nil), route...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "%", verb)
			}
			far.must(args...)
		}
		change("add")
		out := await(t, "the instance to be out", func() bool { i := g.at(p.address); return i == nil || !i.Used })
		within(t, what+": out", out, 3*time.Second)
		await(t, "the instance to be delisted", func() bool { return g.at(p.address) == nil })
		change("del")
		before := c.answered(p.name)
		back := await(t, "calls on the instance again", func() bool { return c.answered(p.name) > before })
		t.Logf("PROOF partition, %s: out after %s, back %s after its end", what, ms(out), ms(back))
		passes(t, l, 600)
	}
	none(t, "an instance cut off", l)
}
