package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// bed is a gateway that finds the echo service below a root of its own, and a client that writes there as it likes.
type bed struct {
	*gatewayTest

	zk      *zk.Conn
	root    string
	dir     string // where the instances are
	servers string
	callers *callers
}

// newBed starts a gateway; more are further keys of the service, registry of the registry, discovery of its use.
func newBed(t testing.TB, servers, root, more, registryKeys, discovery string) *bed {
	t.Helper()
	b := &bed{root: root, dir: root + "/v1/services/" + echoName + "/instances", servers: servers}
	var err error
	if b.zk, _, err = zk.Connect([]string{servers}, 10*time.Second, zk.WithEventCallback(func(zk.Event) {}), zk.WithLogger(silent{})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.zk.Close)
	for i, c := range b.dir {
		if i > 0 && c == '/' {
			b.create(t, b.dir[:i], "")
		}
	}
	b.create(t, b.dir, "")
	folder := t.TempDir()
	text := proofConfig(t, folder, servers, 4*time.Second, more)
	text = strings.Replace(text, ", session: ", ", root: "+root+registryKeys+", session: ", 1)
	text = strings.Replace(text, "service: "+echoName+"}", "service: "+echoName+discovery+"}", 1)
	if b.gatewayTest, err = tryGateway(t, folder, text); err != nil {
		t.Fatal(err)
	}
	b.callers = startCallers(t, strings.TrimPrefix(b.url, "http://"))
	return b
}

func (b *bed) create(t testing.TB, path, data string) {
	t.Helper()
	if _, err := b.zk.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		t.Fatal(err)
	}
}

// entry is the data of an instance at an address.
func entry(id, address string, weight int) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`{"v":1,"id":%q,"weight":%d,"endpoints":[{"protocol":"grpc","host":%q,"port":%s}]}`, id, weight, host, port)
}

// put enters an instance, as one that lives on when its writer has gone.
func (b *bed) put(t testing.TB, id, address string) {
	t.Helper()
	b.create(t, b.dir+"/"+id, entry(id, address, 100))
}

// empty removes all instances, as somebody does who was in the wrong place.
func (b *bed) empty(t testing.TB) {
	t.Helper()
	names, _, err := b.zk.Children(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	b.multi(t, names, func(name string) any { return &zk.DeleteRequest{Path: b.dir + "/" + name, Version: -1} })
}

// multi does one thing to many names, with few requests.
func (b *bed) multi(t testing.TB, names []string, op func(name string) any) {
	t.Helper()
	for chunk := range slices.Chunk(names, 500) {
		ops := make([]any, len(chunk))
		for i, name := range chunk {
			ops[i] = op(name)
		}
		if _, err := b.zk.Multi(ops...); err != nil {
			t.Fatal(err)
		}
	}
}

// addresses are those of the instances that the gateway has in use, sorted.
func (b *bed) addresses() []string {
	b.t.Helper()
	var out []string
	for _, i := range b.view().Instances {
		if i.Used {
			out = append(out, i.Address)
		}
	}
	slices.Sort(out)
	return out
}

// What stands in a registry is whatever somebody has written there, and lists of any length. The gateway takes what is sound,
// keeps what it knew, and doubts a registry that loses most of its entries at once.
func TestProofRegistry(t *testing.T) {
	if !full() {
		t.Parallel()
	}
	servers := realserver.StartZooKeeper(t).Address
	t.Run("garbage", func(t *testing.T) { proofGarbage(t, servers) })
	t.Run("storm", func(t *testing.T) { proofStorm(t, servers) })
	t.Run("mass loss", func(t *testing.T) { proofMassLoss(t, servers) })
	t.Run("mass death", func(t *testing.T) { proofMassDeath(t, servers) })
	t.Run("long list", func(t *testing.T) { proofLongList(t, servers) })
}

// proofGarbage writes what is no instance, or one where none may be.
func proofGarbage(t *testing.T, servers string) {
	live := startProbed(t, "127.0.0.1", "a")
	b := newBed(t, servers, "/garbage", checked(), `, allow: ["127.0.0.0/8", "::1"]`, "")
	_, port, _ := net.SplitHostPort(live.address)
	sound := func(id, host, port, more string) string {
		return fmt.Sprintf(`{"v":1,"id":%q%s,"endpoints":[{"protocol":"grpc","host":%q,"port":%s}]}`, id, more, host, port)
	}
	bad := map[string]string{
		"empty":     "",
		"binary":    "\x00\xff\x13\x37",
		"long":      sound("long", "127.0.0.1", port, `,"version":"`+strings.Repeat("x", 900<<10)+`"`),
		"no-json":   "127.0.0.1:" + port,
		"half":      `{"v":1,"id":"half","endpoints":[{"protocol":"grpc","ho`,
		"other":     `{"name":"other","address":"127.0.0.1"}`,
		"port-0":    sound("port-0", "127.0.0.1", "0", ""),
		"port-big":  sound("port-big", "127.0.0.1", "70000", ""),
		"port-text": sound("port-text", "127.0.0.1", `"80"`, ""),
		"heavy":     sound("heavy", "127.0.0.1", port, `,"weight":2000000000`),
		"lighter":   sound("lighter", "127.0.0.1", port, `,"weight":-1`),
		"status":    sound("status", "127.0.0.1", port, `,"status":"perhaps"`),
		"no-host":   sound("no-host", "", port, ""),
		"metadata":  sound("metadata", "169.254.169.254", "80", ""),
		"elsewhere": sound("elsewhere", "10.0.0.1", port, ""),
		"name":      sound("name", "localhost", port, ""), // where only networks are allowed, a name could be anywhere
		"wildcard":  sound("wildcard", "0.0.0.0", port, ""),
		"any":       sound("any", "::", port, ""),
		"again":     sound("a", "127.0.0.1", port, ""), // another's id
	}
	b.put(t, "a", live.address)
	await(t, "the sound instance", func() bool { return b.used() == 1 })
	l := load.Start(20, patient, b.callers.idempotent()...)
	defer l.Stop()
	for id, data := range bad {
		b.create(t, b.dir+"/"+id, data)
	}
	b.create(t, b.dir+"/"+"v6", sound("v6", "::1", port, "")) // sound, and nobody is there
	took := await(t, "the bad entries to be counted", func() bool { return b.view().Sources[0].Skipped == len(bad) && b.at("[::1]:"+port) != nil })
	passes(t, l, 20)
	t.Logf("PROOF garbage: %d bad entries of %d are counted within %s, the sound one is used", len(bad), len(bad)+2, ms(took))
	none(t, "garbage", l)
	await(t, "the sound instance to be used alone", func() bool { return slices.Equal(b.addresses(), []string{live.address}) })
	if n := strings.Count(b.log.String(), "cannot be read and are left out"); n > len(bad) {
		t.Errorf("want it told with each change at most, found %d times", n)
	}
	if n := metric(b.gatewayTest, "causeway_discovery_skipped{"); n != len(bad) {
		t.Errorf("want %d in the metric, found %d", len(bad), n)
	}
}

// proofStorm changes a service a thousand times a second.
func proofStorm(t *testing.T, servers string) {
	length, rounds, rate := 2*time.Second, 1, 20
	if full() {
		length, rounds, rate = 30*time.Second, 6, 300
	}
	const writers, each = 8, 25
	live := startProbed(t, "0.0.0.0", "a")
	_, port, _ := net.SplitHostPort(live.address)
	b := newBed(t, servers, "/storm", tried(), "", ", unguarded: true") // which instances go is random
	b.put(t, "always", "127.0.0.1:"+port)
	await(t, "the first instance", func() bool { return b.used() == 1 })
	l := load.Start(rate, patient, b.callers.idempotent()...)
	defer l.Stop()
	there := make([]int, writers*each) // its weight; 0: it is not
	for range rounds {
		var all sync.WaitGroup
		changes := make([]int, writers)
		until := time.Now().Add(length)
		for w := range writers {
			all.Go(func() {
				due := time.Now()
				for ; time.Now().Before(until); changes[w]++ {
					n := w*each + rand.IntN(each)
					id := "i" + strconv.Itoa(n)
					weight := 1 + rand.IntN(200)
					data := []byte(entry(id, fmt.Sprintf("127.0.1.%d:%s", n+1, port), weight))
					var err error
					switch {
					case there[n] == 0:
						there[n] = weight
						_, err = b.zk.Create(b.dir+"/"+id, data, 0, zk.WorldACL(zk.PermAll))
					case rand.IntN(2) == 0:
						there[n] = weight
						_, err = b.zk.Set(b.dir+"/"+id, data, -1)
					default:
						there[n] = 0
						err = b.zk.Delete(b.dir+"/"+id, -1)
					}
					if err != nil {
						t.Error(err)
						return
					}
					due = due.Add(time.Second / 1000 * writers)
					time.Sleep(time.Until(due))
				}
			})
		}
		all.Wait()
		total := 0
		for _, n := range changes {
			total += n
		}
		want := []string{"127.0.0.1:" + port + " 100"}
		for n, weight := range there {
			if weight > 0 {
				want = append(want, fmt.Sprintf("127.0.1.%d:%s %d", n+1, port, weight))
			}
		}
		slices.Sort(want)
		took := await(t, "the gateway to have what the registry has", func() bool {
			var got []string
			for _, i := range b.view().Instances {
				got = append(got, fmt.Sprintf("%s %d", i.Address, i.Weight))
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
		t.Logf("PROOF storm: %.0f changes a second for %s; %d instances are right %s after the last one", float64(total)/length.Seconds(), length, len(want), ms(took))
		within(t, "converged", took, time.Second)
	}
	none(t, "storm", l)
}

// proofMassLoss has the registry lose everything, first with all instances alive and then with all dead.
func proofMassLoss(t *testing.T, servers string) {
	kept, rate := time.Second, 20
	if full() {
		kept, rate = 55*time.Second, 300
	}
	var instances []*probedInstance
	for _, name := range []string{"a", "b", "c", "d"} {
		instances = append(instances, startProbed(t, "127.0.0.1", name))
	}
	b := newBed(t, servers, "/loss", "", "", "")
	for _, p := range instances {
		b.put(t, p.name, p.address)
	}
	await(t, "all instances", func() bool { return b.used() == 4 })
	l := load.Start(rate, patient, b.callers.all()...)
	defer l.Stop()
	b.empty(t)
	took := await(t, "the loss to be seen", func() bool { return b.view().Sources[0].Suspects == 4 })
	seen := time.Now()
	time.Sleep(kept)
	await(t, "all instances in use, though the registry has none", func() bool { return b.used() == 4 && b.view().Sources[0].Suspects == 4 })
	none(t, "a registry that lost all of its instances, which live", l)
	t.Logf("PROOF mass loss: seen after %s, all instances used %s later", ms(took), ms(time.Since(seen)))
	if full() {
		await(t, "the suspects to be let go", func() bool { return b.view().Sources[0].Suspects == 0 })
		t.Logf("PROOF mass loss: believed after %s", ms(time.Since(seen)))
	}
	for _, p := range instances {
		b.put(t, p.name, p.address)
	}
	await(t, "all instances again", func() bool { return b.used() == 4 && b.view().Sources[0].Suspects == 0 })
	for _, p := range instances {
		p.stop()
	}
	b.empty(t)
	await(t, "the dead not to be used", func() bool { return b.used() == 0 })
	dead := load.Start(rate, patient, b.callers.all()...)
	passes(t, dead, rate)
	r := dead.Stop()
	slowest := time.Duration(0)
	for range 10 {
		began := time.Now()
		if a := b.call("POST", "/v1/echo", `{"text":"x"}`); a.status != 503 {
			t.Errorf("want 503, found %d %s", a.status, a.body)
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("PROOF mass loss with all instances dead: %d of %d calls refused, ten of them within %s", r.Failed, r.Ended, ms(slowest))
	if r.Failed != r.Ended {
		t.Errorf("want all calls refused, found %d of %d", r.Failed, r.Ended)
	}
	within(t, "refused", slowest, 100*time.Millisecond)
}

// proofMassDeath ends most of a large service at once, without a word to the registry.
func proofMassDeath(t *testing.T, servers string) {
	many, session := 200, shortSession
	if full() {
		many, session = 2000, 6*time.Second
	}
	live, doomed := startProbed(t, "127.0.0.1", "live"), startProbed(t, "0.0.0.0", "doomed")
	_, port, _ := net.SplitHostPort(doomed.address)
	b := newBed(t, servers, "/death", checked(), "", "")
	b.put(t, "live", live.address)

	// Ten processes with a tenth of the instances each, as far as the registry can see.
	var cuts []func()
	for p := range 10 {
		wire := &line{}
		cuts = append(cuts, wire.cut)
		c, err := zookeeper.Connect(zookeeper.Config{Servers: []string{servers}, Root: b.root, Session: session, Dial: wire.dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		var all sync.WaitGroup
		for i := range many / 10 {
			all.Go(func() {
				n := p*many/10 + i
				ep := registry.Endpoint{ID: "i" + strconv.Itoa(n), Address: fmt.Sprintf("127.1.%d.%d:%s", n/200, 1+n%200, port)}
				if _, err := (&zookeeper.Registrar{Conn: c}).Register(t.Context(), echoName, ep); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	came := await(t, "all instances", func() bool { return b.used() == many+1 })
	began := time.Now()
	for _, cut := range cuts {
		cut()
	}
	doomed.stop()
	out := await(t, "the dead not to be used", func() bool { at := b.addresses(); return len(at) == 1 && at[0] == live.address })
	await(t, "calls to find the living one", func() bool { // what is known is in force a moment later
		for range 20 {
			if _, err := b.callers.rest(t.Context(), true); err != nil {
				return false
			}
		}
		return true
	})
	listed := load.Start(20, patient, b.callers.all()...)
	defer listed.Stop()
	await(t, "the registry to have delisted them", func() bool { return b.view().Sources[0].Instances == 1 })
	delisted := time.Since(began)
	passes(t, listed, 1)
	none(t, "while most are dead and listed", listed)
	l := load.Start(20, patient, b.callers.all()...)
	defer l.Stop()
	passes(t, l, 20)
	if at := b.addresses(); len(at) != 1 || at[0] != live.address {
		t.Errorf("want no dead instance used after they were delisted, found %d instances", len(at))
	}
	none(t, "after most were delisted", l)
	t.Logf("PROOF mass death: %d instances, known %s after the last was registered, none used %s after all of them were stopped at once, delisted after %s",
		many, ms(came), ms(out), ms(delisted))
	within(t, "delisted", delisted, session+tick+time.Second)
}

// proofLongList makes the list of instances longer than a service may have, and than an answer may be.
func proofLongList(t *testing.T, servers string) {
	many, length := 10_050, 20
	if full() {
		many, length = 20_000, 240
	}
	live := startProbed(t, "127.0.0.1", "a")
	b := newBed(t, servers, "/long", checked(), "", "")
	b.put(t, "a", live.address)
	await(t, "the instance", func() bool { return b.used() == 1 })
	l := load.Start(20, patient, b.callers.all()...)
	defer l.Stop()
	fill := strings.Repeat("x", length)
	names := make([]string, many)
	for i := range names {
		names[i] = fill + strconv.Itoa(i)
	}
	b.multi(t, names, func(name string) any {
		return &zk.CreateRequest{Path: b.dir + "/" + name, Data: []byte(entry(name, "127.9.9.9:9", 100)), Acl: zk.WorldACL(zk.PermAll)}
	})
	await(t, "the length of the list to be told", func() bool { return !b.fresh() })
	said := b.view().Sources[0].Err
	passes(t, l, 20)
	if b.at(live.address) == nil {
		t.Error("want the last known instance kept")
	}
	b.multi(t, names, func(name string) any { return &zk.DeleteRequest{Path: b.dir + "/" + name, Version: -1} })
	took := await(t, "the gateway to hear of the list again", func() bool { return b.fresh() && len(b.view().Instances) == 1 })
	t.Logf("PROOF long list: %d names of %d bytes: %q; heard again %s after they had gone", many, length+5, said, ms(took))
	if !strings.Contains(said, "want at most") && !strings.Contains(said, "want an answer of at most") {
		t.Errorf("want a clear reason, found %q", said)
	}
	none(t, "a list that is too long", l)
}
