package http2

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Here the server that is attacked and who attacks it are processes of their own, so that what each of them costs can be told.

const (
	besiegedRole = "besieged"
	attackerRole = "attacker"
)

// full tells whether proofs run at their full length (make proof) or in their short form.
func full() bool { return os.Getenv("CAUSEWAY_PROOF") == "1" }

// state is what the server says of itself.
type state struct {
	Address       string
	CPU           time.Duration // of the process
	RSS           int64         // bytes
	Held          int64         // bytes of the budget
	Running, Most int64         // calls of the attackers, and the most of a connection at once
	Conns         int
}

// assault is what an attacker does, and what came of it.
type assault struct {
	Address string
	Flood   string        // by its name
	Lanes   int           // connections at once
	Frames  int           // or pairs of them, on each connection
	For     time.Duration // connections are made anew for so long; zero: one for each lane

	CPU           time.Duration
	Conns, Calmed int64 // connections made, and ended with ENHANCE_YOUR_CALM
	Sent          int64 // bytes
}

// besieged is the server: for each line of its input it prints its state.
func besieged() error {
	var running, most atomic.Int64
	var mu sync.Mutex
	perConn := map[string]int64{} // calls by the client's address
	s, err := listen(Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path == canaryPath {
			hello(ctx, x)
			return
		}
		peer := x.Peer.String()
		running.Add(1)
		mu.Lock()
		perConn[peer]++
		most.Store(max(most.Load(), perConn[peer]))
		mu.Unlock()
		defer func() {
			mu.Lock()
			if perConn[peer]--; perConn[peer] == 0 {
				delete(perConn, peer)
			}
			mu.Unlock()
			running.Add(-1)
		}()
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	if err != nil {
		return err
	}
	return converse(func([]byte) (any, error) {
		rss, err := residentBytes()
		return &state{s.address, processorTime(), rss, s.protocol.memory.Load(), running.Load(), most.Load(), len(s.list())}, err
	})
}

// attacker is the other side: each line of its input is an assault, which it carries out and prints.
func attacker() error {
	return converse(func(line []byte) (any, error) {
		a := &assault{}
		if err := json.Unmarshal(line, a); err != nil {
			return nil, err
		}
		return a, a.run()
	})
}

// converse answers each line of the input with one of JSON.
func converse(answer func(line []byte) (any, error)) error {
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		v, err := answer(in.Bytes())
		if err == nil {
			err = out.Encode(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentBytes is the resident memory of this process.
func residentBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // not Linux
	}
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("want sizes in pages, found %q", b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// run makes the bytes in advance, so that they cost the attacker nothing.
func (a *assault) run() error {
	list := floods()
	i := slices.IndexFunc(list, func(f flood) bool { return f.name == a.Flood })
	if i < 0 {
		return fmt.Errorf("no flood %q", a.Flood)
	}
	b := append(appendSettingsAck(appendSettings([]byte(preface))), list[i].bytes(a.Frames)...)
	before, end := processorTime(), time.Now().Add(a.For)
	var conns, calmed, sent atomic.Int64
	failed := make(chan error, a.Lanes)
	for range a.Lanes {
		go func() {
			for {
				last, n, err := a.connect(b)
				if err != nil {
					failed <- err
					return
				}
				conns.Add(1)
				sent.Add(n)
				if last == EnhanceYourCalm {
					calmed.Add(1)
				}
				if time.Now().After(end) {
					failed <- nil
					return
				}
			}
		}()
	}
	for range a.Lanes {
		if err := <-failed; err != nil {
			return err
		}
	}
	a.CPU, a.Conns, a.Calmed, a.Sent = processorTime()-before, conns.Load(), calmed.Load(), sent.Load()
	return nil
}

// connect sends b on a connection of its own and reads to the end: it returns the code of the last GOAWAY and how many
// bytes were sent.
func (a *assault) connect(b []byte) (last ErrCode, sent int64, err error) {
	conn, err := net.Dial("tcp", a.Address)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		return 0, 0, err
	}
	wrote := make(chan int, 1)
	go func() {
		n, _ := conn.Write(b)                                      // that the server closes is what is expected
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // one that is so slow that this is no flood waits for more
		wrote <- n
	}()
	var answer []byte
	room := make([]byte, 16<<10)
	for err == nil {
		var n int
		n, err = conn.Read(room)
		answer = append(answer, room[:n]...)
	}
	_ = conn.Close()
	sent = int64(<-wrote)
	last = NoError
	for len(answer) >= 9 {
		n := 9 + (int(answer[0])<<16 | int(answer[1])<<8 | int(answer[2]))
		if n > len(answer) {
			break
		}
		if frameType(answer[3]) == frameGoAway && n >= 17 {
			last = ErrCode(answer[16]) // codes are below 256
		}
		answer = answer[n:]
	}
	return last, sent, nil // what it read to the end of, if by a reset, is what counts
}

// process is one of the two, asked by lines.
type process struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

func startProcess(t testing.TB, role string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, "GOGC=400") // as the gateway sets it
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &process{t, in, bufio.NewReader(out)}
}

func (p *process) ask(question, answer any) {
	p.t.Helper()
	b, err := json.Marshal(question)
	if err == nil {
		_, err = p.in.Write(append(b, '\n'))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, answer)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) state() (s state) {
	p.t.Helper()
	p.ask("", &s)
	return s
}

// TestProofFloods has ten connections at a time flood a server with each kind of frames: 100,000 of them on each
// connection, and not many more than it takes to be shown the door, by a client that comes back at once. The server spends
// less than ten times what the attacker spends, and a client beside it, 50 calls a second, has 99 of 100 answers within
// 50 ms. A client of an idle server tells what the machine itself adds: where that is much, all floods are judged together
// and by the difference. In short each lane has one connection, the canary is answered, and all in all the server spends
// less than a hundred times what the attacker does.
func TestProofFloods(t *testing.T) {
	frames, lasting := []int{100_000}, time.Duration(0)
	if full() {
		frames, lasting = append(frames, 1100), 3*time.Second
	}
	server, idle, enemy := startProcess(t, besiegedRole), startProcess(t, besiegedRole), startProcess(t, attackerRole)
	address, elsewhere := server.state().Address, idle.state().Address
	var spent, paid time.Duration
	var birds, others canary
	for _, f := range floods() {
		for _, n := range frames {
			name := fmt.Sprintf("%s, %d on a connection", f.name, n)
			t.Run(name, func(t *testing.T) {
				bird, other := sing(t, address, 20*time.Millisecond), sing(t, elsewhere, 20*time.Millisecond)
				before := server.state()
				a := assault{Address: address, Flood: f.name, Lanes: 10, Frames: n, For: lasting}
				enemy.ask(&a, &a)
				after := server.state()
				bird.end(t)
				other.end(t)
				spends := after.CPU - before.CPU
				ratio := float64(spends) / float64(a.CPU)
				spent, paid = spent+spends, paid+a.CPU
				t.Logf("PROOF %s: %d connections, %d MB; %v of processor time for %v of the attacker's: %.2f; the canary's p99 of %d calls %v, elsewhere %v; RSS %d MiB",
					name, a.Conns, a.Sent>>20, spends, a.CPU, ratio, bird.n, bird.p99(), other.p99(), after.RSS>>20)
				if a.Calmed != a.Conns && (n == frames[0] || a.Calmed == 0) {
					t.Errorf("want %d connections ended with ENHANCE_YOUR_CALM, found %d", a.Conns, a.Calmed)
				}
				if after.Most > 100 {
					t.Errorf("want at most 100 calls of a connection at once, found %d", after.Most)
				}
				if full() && ratio >= 10 {
					t.Errorf("want less than 10 times the attacker's processor time, found %.2f", ratio)
				}
				if full() && bird.p99() >= 50*time.Millisecond && other.p99() < 10*time.Millisecond {
					t.Errorf("want the canary's p99 below 50 ms, found %v; %v elsewhere", bird.p99(), other.p99())
				}
				birds.waits, others.waits = append(birds.waits, bird.waits...), append(others.waits, other.waits...)
			})
		}
	}
	t.Logf("PROOF all: %v of processor time for %v of the attacker's: %.2f; the canary's p99 of %d calls %v, elsewhere %v",
		spent, paid, float64(spent)/float64(paid), len(birds.waits), birds.p99(), others.p99())
	if full() && birds.p99() >= 50*time.Millisecond+2*others.p99() {
		t.Errorf("want the canary's p99 below 50 ms, found %v; %v elsewhere", birds.p99(), others.p99())
	}
	if spent >= 100*paid {
		t.Errorf("want less than 100 times the attacker's %v of processor time, found %v", paid, spent)
	}
	waitGone(t, server)
}

// waitGone waits until all calls and connections of a server have ended.
func waitGone(t *testing.T, p *process) {
	t.Helper()
	eventually(t, "all ended", func() bool { s := p.state(); return s.Running == 0 && s.Held == 0 && s.Conns == 0 })
}

// TestProofPoliteCanceller has a client cancel a fifth of its calls, at once or when others have been answered, for ten
// minutes as fast as it is answered: all others are, and its connection stays. In short for a second.
func TestProofPoliteCanceller(t *testing.T) {
	t.Parallel()
	lasting := time.Second
	if full() {
		lasting = 10 * time.Minute
	}
	server := startProcess(t, besiegedRole)
	r := dialRaw(t, server.state().Address)
	calls, cancelled, id := 0, 0, uint32(1)
	for begun := time.Now(); time.Since(begun) < lasting || calls < 1000; {
		r.must(r.conn.SetDeadline(time.Now().Add(3 * time.Minute)))
		var batch, late []byte
		wanted := map[uint32]bool{}
		for i := range 50 {
			reset := frame(nil, http2.FrameRSTStream, 0, id, 0, 0, 0, 8)
			switch {
			case i%5 > 0:
				batch = appendHeaders(batch, id, true, plain(get()...), 16<<10)
				wanted[id] = true
			case calls%100 == 0:
				batch = append(appendHeaders(batch, id, true, plain(get()...), 16<<10), reset...)
			default:
				batch = appendHeaders(batch, id, false, plain(post()...), 16<<10)
				late = append(late, reset...)
			}
			id += 2
		}
		r.send(batch)
		r.until("the answers of calls that are not cancelled", func() bool {
			for i := range wanted {
				if a := r.answers[i]; a != nil && a.ended {
					delete(wanted, i)
				}
			}
			return len(wanted) == 0
		})
		r.send(late)
		calls, cancelled = calls+50, cancelled+10
		clear(r.answers) // a cancelled call's may still come
	}
	r.sync()
	t.Logf("PROOF polite canceller: %d calls in %v on one connection, %d cancelled", calls, lasting, cancelled)
	if len(r.goAways) != 0 || len(r.resets) != 0 {
		t.Errorf("want no punishment, found %v and %v", r.goAways, r.resets)
	}
	_ = r.conn.Close()
	waitGone(t, server)
}

// 200 connections open 100 streams each, whose heads are 60 KiB when they are decoded, of references of one byte to a header
// of 4 KiB, and take no answers: the server's process grows by less than 300 MiB, others are served, and what it holds comes
// back with the streams. TestServerMemoryBudget is the same with heads that are sent whole.
func TestServerHeaderBombs(t *testing.T) {
	t.Parallel()
	const connections, streams = 200, 100
	var attack []byte
	field := appendString(appendString([]byte{0x40}, "x-bomb"), strings.Repeat("b", 4000)) // into the table
	for i := range streams {
		block := append(plain(post()...), field...)
		field = []byte{0x80 | 62} // the newest entry
		attack = appendHeaders(attack, uint32(2*i+1), false, append(block, bytes.Repeat(field, 14)...), 16<<10)
	}
	server := startProcess(t, besiegedRole)
	before := server.state()
	bird := sing(t, before.Address, 20*time.Millisecond)
	refused, most := 0, int64(0)
	var all []*raw
	for range connections {
		r := dialRaw(t, before.Address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		all = append(all, r)
		r.send(attack)
		r.sync()
		refused += len(r.resets)
		if len(r.goAways) != 0 {
			t.Fatalf("want connections kept, found %v", r.goAways)
		}
		most = max(most, server.state().RSS)
	}
	held := server.state()
	t.Logf("%d bytes on each of %d connections: %d of %d streams refused, %d MiB held, RSS %d MiB more", len(attack), connections, refused, connections*streams, held.Held>>20, (most-before.RSS)>>20)
	if limit := (Limits{}).withDefaults().Memory; held.Held > limit || held.Held < limit/2 {
		t.Errorf("want most of %d bytes held and no more, found %d", limit, held.Held)
	}
	if refused == 0 {
		t.Error("want streams refused")
	}
	if most-before.RSS >= 300<<20 && !raceEnabled {
		t.Errorf("want the process to grow by less than 300 MiB, found %d bytes", most-before.RSS)
	}
	for _, r := range all {
		for i := range streams {
			_ = r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}
	}
	eventually(t, "all given back", func() bool { return server.state().Held == 0 })
	bird.end(t)
}
