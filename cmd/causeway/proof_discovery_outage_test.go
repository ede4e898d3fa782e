package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// addressesOf are the addresses of an ensemble with commas between.
func addressesOf(all []*realserver.ZooKeeper) string {
	addresses := make([]string, len(all))
	for i, z := range all {
		addresses[i] = z.Address
	}
	return strings.Join(addresses, ",")
}

// fresh tells whether what the gateway knows of its registry is not stale.
func (g *gatewayTest) fresh() bool {
	g.t.Helper()
	src := g.view().Sources[0]
	return src.Known && src.Stale == 0 && src.Shelved == 0
}

// savedAt is when a snapshot says that it was written.
var savedAt = regexp.MustCompile(`"saved": *"([^"]*)"`)

// shelved is the snapshot that a gateway has written, alone in a new folder: what is left of it for another one. Its clock was an
// hour ahead.
func shelved(t testing.TB, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, ".causeway", "discovery", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one snapshot, found %v %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := savedAt.FindSubmatch(raw)
	if at == nil {
		t.Fatalf("want when it was saved, found %s", raw)
	}
	saved, err := time.Parse(time.RFC3339, string(at[1]))
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, at[1], []byte(saved.Add(time.Hour).Format(time.RFC3339)), 1)
	other := t.TempDir()
	to := filepath.Join(other, ".causeway", "discovery")
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, filepath.Base(files[0])), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return other
}

// Members of an ensemble fall silent, the leader dies, the quorum is lost, and then all of them are killed for a minute. An
// instance dies meanwhile, and a gateway starts. No idempotent call fails, also not when the ensemble is back and still lists
// the dead instance.
func TestProofOutage(t *testing.T) {
	session, away, rate := shortSession, 3*time.Second, 30
	if full() {
		session, away, rate = 6*time.Second, 60*time.Second, 500
	} else {
		t.Parallel()
	}
	ensemble := realserver.StartEnsemble(t)
	zk := addressesOf(ensemble)
	args := []string{"-session", session.String()}
	instances := startInstances(t, 4, zk, args...)
	dir := t.TempDir()
	text := proofConfig(t, dir, zk, session, checked())
	g, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	c := startCallers(t, strings.TrimPrefix(g.url, "http://"))
	await(t, "all instances", func() bool { return g.used() == 4 })
	l := load.Start(rate, patient, c.idempotent()...)
	defer l.Stop()
	passes(t, l, 2*rate)

	// works shows that the registry is heard again: an instance comes and goes.
	works := func(what string) {
		t.Helper()
		began := time.Now()
		name := strings.ReplaceAll(what, " ", "-")
		before := c.answered(name)
		p := startInstance(t, zk, name, "", append(args, "-window", "1s")...)
		await(t, what+": calls on a new instance", func() bool { return c.answered(name) > before })
		p.stop()
		await(t, what+": the instance that left to be gone", func() bool { return g.at(p.address) == nil && g.fresh() })
		t.Logf("PROOF %s: an instance has come, was called and has gone within %s", what, ms(time.Since(began)))
		await(t, what+": all the others in use", func() bool { return g.used() == 4 })
	}
	if full() {
		for _, member := range ensemble { // one of them is the gateway's
			member.Pause()
			works("a member is silent")
			member.Resume()
		}
		leader := realserver.Leader(t, ensemble)
		leader.Kill()
		works("the leader is killed")
		leader.Start()

		ensemble[0].Kill()
		ensemble[1].Kill()
		await(t, "the loss of the quorum to be noticed", func() bool { return !g.fresh() })
		time.Sleep(3 * session / 2)
		if n := g.used(); n != 4 {
			t.Errorf("want all instances kept without a quorum, found %d", n)
		}
		ensemble[0].Start()
		ensemble[1].Start()
		works("the quorum is back")
	}

	for _, z := range ensemble {
		z.Kill()
	}
	began := time.Now()
	await(t, "the outage to be noticed", func() bool { return !g.fresh() })
	instances[0].kill()
	await(t, "the dead instance to be passed over", func() bool { i := g.at(instances[0].address); return i != nil && !i.Used })
	late := shelved(t, dir)
	startedAt := time.Now()
	second, err := tryGateway(t, late, proofConfig(t, late, zk, session, checked()))
	if err != nil {
		t.Fatal(err)
	}
	c2 := startCallers(t, strings.TrimPrefix(second.url, "http://"))
	await(t, "an answer by the snapshot", func() bool { _, err := c2.rest(t.Context(), true); return err == nil })
	serving := time.Since(startedAt)
	t.Logf("PROOF a gateway that was started in the outage serves after %s", ms(serving))
	within(t, "a gateway started in the outage", serving, 5*time.Second)
	l2 := load.Start(rate, patient, c2.idempotent()...)
	defer l2.Stop()
	passes(t, l2, rate)
	time.Sleep(time.Until(began.Add(away)))
	await(t, "the three living instances in use", func() bool { return g.used() == 3 && second.used() == 3 })
	dead := c.answered(instances[0].name)
	for _, z := range ensemble {
		z.Launch()
	}
	back := time.Now()
	await(t, "both gateways to hear from the registry", func() bool { return g.fresh() && second.fresh() })
	heard, listed := time.Since(back), g.at(instances[0].address) != nil
	await(t, "the dead instance to be delisted", func() bool { return g.at(instances[0].address) == nil && second.at(instances[0].address) == nil })
	t.Logf("PROOF after %s without a registry it was heard %s after its start, with the dead instance listed: %t, for another %s",
		ms(back.Sub(began)), ms(heard), listed, ms(time.Since(back)-heard))
	if now := c.answered(instances[0].name); now != dead {
		t.Errorf("want no answer of the dead, found %d", now-dead)
	}
	none(t, "the gateway that saw the outage", l)
	none(t, "the gateway that was started in it", l2)
}
