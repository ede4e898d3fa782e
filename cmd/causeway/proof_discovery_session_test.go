package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/admin"
	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// tap stands between a gateway and a ZooKeeper. It reads along who the gateway is there, and can keep the answers back.
type tap struct {
	t      testing.TB
	ln     net.Listener
	target string
	all    sync.WaitGroup

	mu       sync.Mutex
	deaf     bool // answers do not come through; requests do
	session  int64
	password []byte
	open     map[net.Conn]struct{}
}

func startTap(t testing.TB, host, target string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	r := &tap{t: t, ln: ln, target: target, open: map[net.Conn]struct{}{}}
	r.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.all.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		for c := range r.open {
			c.Close()
		}
		r.mu.Unlock()
		r.all.Wait()
	})
	return r
}

func (r *tap) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = struct{}{}
}

func (r *tap) end(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *tap) serve(c net.Conn) {
	r.keep(c)
	defer r.end(c)
	up, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	r.keep(up)
	defer r.end(up)
	r.all.Go(func() {
		_, _ = io.Copy(up, c) // until either side ends
		up.Close()
		c.Close()
	})
	first := make([]byte, 4)
	if _, err := io.ReadFull(up, first); err != nil {
		return
	}
	body := make([]byte, binary.BigEndian.Uint32(first))
	if _, err := io.ReadFull(up, body); err != nil || len(body) < 36 {
		return
	}
	r.mu.Lock()
	if id := int64(binary.BigEndian.Uint64(body[8:])); id != 0 && !r.deaf {
		r.session, r.password = id, slices.Clone(body[20:36])
	}
	r.mu.Unlock()
	b := append(first, body...)
	buf := make([]byte, 64<<10)
	for {
		r.mu.Lock()
		deaf := r.deaf
		r.mu.Unlock()
		if !deaf {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		b = buf[:n]
	}
}

// set makes answers come through or not. A connection that has missed some of them is of no more use.
func (r *tap) set(deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
	if !deaf {
		for c := range r.open {
			c.Close()
		}
	}
}

func (r *tap) who() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}

// usurp closes the session of the gateway as somebody who knows its password.
func (r *tap) usurp() {
	r.t.Helper()
	r.mu.Lock()
	id, password := r.session, r.password
	r.mu.Unlock()
	c, err := net.Dial("tcp", r.target)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	frame := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	hello := binary.BigEndian.AppendUint64(make([]byte, 4), 0)                         // protocol version, last transaction seen
	hello = binary.BigEndian.AppendUint64(append(hello, 0, 0, 0x13, 0x88), uint64(id)) // 5 s
	hello = append(binary.BigEndian.AppendUint32(hello, uint32(len(password))), password...)
	if _, err := c.Write(frame(append(hello, 0))); err != nil {
		r.t.Fatal(err)
	}
	answer := make([]byte, 20)
	if _, err := io.ReadFull(c, answer); err != nil || int64(binary.BigEndian.Uint64(answer[12:])) != id {
		r.t.Fatalf("want session %x, found %x %v", id, answer, err)
	}
	if _, err := c.Write(frame([]byte{0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5})); err != nil { // closeSession, -11
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, c) // it ends with the session
}

// startGarbage answers as another kind of server does.
func startGarbage(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") // to somebody who does not speak it
			c.Close()
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

// proofToken opens the admin listeners of these gateways.
const proofToken = "0123456789abcdef0123456789abcdef"

// gatewayProcess is a gateway as a process of its own.
type gatewayProcess struct {
	*process

	admin string
}

func startGatewayProcess(t testing.TB, text string) *gatewayProcess {
	t.Helper()
	return startGatewayProcessOf(t, "causeway", text)
}

// startGatewayProcessOf starts one of another build.
func startGatewayProcessOf(t testing.TB, binary, text string) *gatewayProcess {
	t.Helper()
	dir := t.TempDir()
	g := &gatewayProcess{admin: reserve(t)}
	address, secret := reserve(t), filepath.Join(dir, "token")
	text = strings.Replace(text, "listen:\n  - address: 127.0.0.1:0\n", "listen:\n  - address: "+address+"\n", 1)
	text = strings.Replace(text, "admin:\n  address: 127.0.0.1:0\n", "admin:\n  address: "+g.admin+"\n  token: ${file:"+secret+"}\n", 1)
	if err := os.WriteFile(secret, []byte(proofToken), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "causeway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && g.out != nil {
			t.Log(g.out)
		}
	})
	g.process = &process{t: t, args: []string{binary, "run", "-c", file, "--drain-delay", "0s"}, address: address}
	g.start()
	return g
}

func (g *gatewayProcess) signal(s syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
}

// view is what the gateway tells of the echo service.
func (g *gatewayProcess) view() admin.Service {
	g.t.Helper()
	a := send(g.t, http.DefaultClient, http.MethodGet, "http://"+g.admin+"/api/v1/services/echo", "", "Authorization", "Bearer "+proofToken)
	var out admin.Service
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		g.t.Fatalf("found %d %s", a.status, a.body)
	}
	return out
}

// used are the instances that take calls as a matter of course.
func (g *gatewayProcess) used() (addresses []string, stale bool) {
	g.t.Helper()
	v := g.view()
	for _, i := range v.Instances {
		if i.Used {
			addresses = append(addresses, i.Address)
		}
	}
	return addresses, v.Sources[0].Stale != nil
}

// peak is the most memory that the process has had, in MiB.
func (g *gatewayProcess) peak() int {
	g.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(g.cmd.Process.Pid) + "/status")
	if err != nil {
		g.t.Skip("there is no /proc")
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kb, _ := strconv.Atoi(f[1])
			return kb >> 10
		}
	}
	g.t.Fatal("want VmHWM")
	return 0
}

// A gateway loses its session while it is frozen and because somebody else has closed it, hears nothing from its registry
// although that hears it, and finds the registry without any data; one of its servers is no ZooKeeper at all. Each time it comes
// back by itself, what changed meanwhile is seen, and no idempotent call fails.
func TestProofSessions(t *testing.T) {
	session, rate := 2500*time.Millisecond, 20 // the gateway's is twice that, see proofConfig
	if full() {
		session, rate = 6*time.Second, 300
	} else {
		t.Parallel()
	}
	zk := realserver.StartZooKeeper(t)
	between := startTap(t, "127.0.0.1", zk.Address)
	args := []string{"-session", session.String(), "-window", "1s"}
	instances := startInstances(t, 3, zk.Address, args...)
	g := startGatewayProcess(t, proofConfig(t, t.TempDir(), startGarbage(t)+","+between.ln.Addr().String(), session, checked()))
	c := startCallers(t, g.address)
	await(t, "all instances", func() bool { all, _ := g.used(); return len(all) == 3 })
	l := load.Start(rate, patient, c.idempotent()...)
	defer l.Stop()
	passes(t, l, 2*rate)

	// heard shows that changes are heard: an instance comes and goes.
	heard := func(what string, began time.Time) {
		t.Helper()
		name := strings.ReplaceAll(what, " ", "-")
		before := c.answered(name)
		p := startInstance(t, zk.Address, name, "", args...)
		await(t, what+": calls on a new instance", func() bool { return c.answered(name) > before })
		p.stop()
		await(t, what+": it has gone", func() bool {
			all, stale := g.used()
			return !slices.Contains(all, p.address) && len(all) == 3 && !stale
		})
		t.Logf("PROOF %s: changes are heard %s after it began", what, ms(time.Since(began)))
	}
	renewed := func(what string, former int64) {
		t.Helper()
		took := await(t, what+": a new session", func() bool { return between.who() != former })
		t.Logf("PROOF %s: a new session after %s", what, ms(took))
	}

	began, former := time.Now(), between.who()
	g.signal(syscall.SIGSTOP)
	instances[0].kill()
	instances[0] = startInstance(t, zk.Address, "meanwhile", "", args...)
	own := session
	if !full() {
		own *= 2
	}
	time.Sleep(own + 2*tick)
	g.signal(syscall.SIGCONT)
	renewed("frozen", former)
	await(t, "calls on the instance that came while the gateway was frozen", func() bool { return c.answered("meanwhile") > 0 })
	heard("frozen", began)

	began, former = time.Now(), between.who()
	between.usurp()
	renewed("closed by another", former)
	heard("closed by another", began)

	began = time.Now()
	between.set(true)
	took := await(t, "the silence to be noticed", func() bool { all, stale := g.used(); return stale && len(all) == 3 })
	t.Logf("PROOF answers that do not come are noticed after %s", ms(took))
	within(t, "noticed", took, session)
	between.set(false)
	heard("answers come again", began)

	began = time.Now()
	zk.Kill()
	zk.Wipe()
	zk.Start()
	heard("the data is lost", began)

	none(t, "sessions that end", l)
	peak := g.peak()
	t.Logf("PROOF with a server of another protocol among those of its registry the gateway took %d MiB at most", peak)
	if peak > 900 { // the library alone takes 1,158 MiB; the race detector takes its share
		t.Errorf("want little memory, found %d MiB", peak)
	}
}
