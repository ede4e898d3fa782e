package realserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// jar is where Debian has ZooKeeper.
const jar = "/usr/share/java/zookeeper.jar"

// ZooKeeper is Debian's ZooKeeper as a child of the test: one server with ticks of 500 ms, so with sessions of 1 to 10 s.
type ZooKeeper struct {
	Address string // host:port, the same over a restart

	t       testing.TB
	java    string
	dir     string
	id      string // in its ensemble; empty: it is alone
	process *exec.Cmd
	output  *os.File
}

// StartZooKeeper starts one with an empty data directory and waits until it serves. It ends with the test.
func StartZooKeeper(t testing.TB) *ZooKeeper {
	t.Helper()
	z := prepare(t, freeAddress(t), "", "")
	z.Start()
	return z
}

// StartEnsemble starts three that know each other and waits until they serve. They end with the test.
func StartEnsemble(t testing.TB) []*ZooKeeper {
	t.Helper()
	var peers strings.Builder
	for id := range 3 {
		host, port, _ := net.SplitHostPort(freeAddress(t))
		_, election, _ := net.SplitHostPort(freeAddress(t))
		fmt.Fprintf(&peers, "server.%d=%s:%s:%s\n", id+1, host, port, election)
	}
	var all []*ZooKeeper
	for id := range 3 {
		all = append(all, prepare(t, freeAddress(t), strconv.Itoa(id+1), "initLimit=10\nsyncLimit=4\n"+peers.String()))
	}
	for _, z := range all {
		z.Launch()
	}
	for _, z := range all {
		z.await()
	}
	return all
}

// Leader is the one that leads.
func Leader(t testing.TB, all []*ZooKeeper) *ZooKeeper {
	t.Helper()
	for _, z := range all {
		if z.process == nil {
			continue
		}
		if answer, err := z.word("srvr"); err == nil && bytes.Contains(answer, []byte("Mode: leader")) {
			return z
		}
	}
	t.Fatal("no server leads")
	return nil
}

// freeAddress is one that was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// prepare writes the configuration.
func prepare(t testing.TB, address, id, more string) *ZooKeeper {
	t.Helper()
	z := &ZooKeeper{Address: address, t: t, java: Need(t, "java", "default-jdk-headless"), id: id}
	needFile(t, jar, "zookeeper")
	z.dir = t.TempDir()
	host, port, _ := net.SplitHostPort(address)
	config := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%s\nclientPortAddress=%s\nadmin.enableServer=false\nmaxClientCnxns=0\nforceSync=no\n4lw.commands.whitelist=ruok,srvr,stat\n%s",
		filepath.Join(z.dir, "data"), port, host, more)
	if err := os.WriteFile(filepath.Join(z.dir, "zoo.cfg"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if z.output, err = os.Create(filepath.Join(z.dir, "output")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		z.Kill()
		_ = z.output.Close()
	})
	return z
}

// Start starts it again, with the data it had, and waits until it serves.
func (z *ZooKeeper) Start() {
	z.t.Helper()
	z.Launch()
	z.await()
}

// Launch is Start without the wait: members of an ensemble do not serve alone.
func (z *ZooKeeper) Launch() {
	z.t.Helper()
	if z.id != "" {
		data := filepath.Join(z.dir, "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			z.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, "myid"), []byte(z.id), 0o600); err != nil {
			z.t.Fatal(err)
		}
	}
	z.process = exec.CommandContext(context.Background(), z.java, //nolint:gosec // the program is Debian's java
		"-Xmx256m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		"-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=200", "-Dzookeeper.preAllocSize=64",
		"-cp", "/etc/zookeeper/conf_example:"+jar,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(z.dir, "zoo.cfg"))
	z.process.Dir = z.dir // log4j of some versions writes beside where it is started
	z.process.Stdout, z.process.Stderr = z.output, z.output
	z.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := z.process.Start(); err != nil {
		z.t.Fatal(err)
	}
}

func (z *ZooKeeper) await() {
	z.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		answer, err := z.word("srvr") // one without a quorum says that it serves no requests
		if err == nil && bytes.Contains(answer, []byte("Mode: ")) {
			return
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(filepath.Join(z.dir, "output"))
			z.t.Fatalf("ZooKeeper does not serve: %v\n%s", err, said)
		}
	}
}

func (z *ZooKeeper) word(w string) ([]byte, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", z.Address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, w); err != nil {
		return nil, err
	}
	return io.ReadAll(c)
}

// Latency is what requests have taken in the server since it was started: least/average/most, in ms, as it says.
func (z *ZooKeeper) Latency() string {
	z.t.Helper()
	answer, err := z.word("srvr")
	if err != nil {
		return err.Error()
	}
	_, figures, _ := strings.Cut(string(answer), "Latency min/avg/max: ")
	figures, _, _ = strings.Cut(figures, "\n")
	return figures
}

// Pid is its process.
func (z *ZooKeeper) Pid() int { return z.process.Process.Pid }

// Kill ends it at once and keeps its data.
func (z *ZooKeeper) Kill() {
	if z.process == nil || z.process.Process == nil {
		return
	}
	_ = z.process.Process.Kill() // it may have ended before
	_ = z.process.Wait()         // it was killed
	z.process = nil
}

// Wipe removes its data. It must not run.
func (z *ZooKeeper) Wipe() {
	z.t.Helper()
	if err := os.RemoveAll(filepath.Join(z.dir, "data")); err != nil {
		z.t.Fatal(err)
	}
}

// Pause stops it without a word to its clients; Resume lets it go on.
func (z *ZooKeeper) Pause() { z.signal(syscall.SIGSTOP) }

// Resume lets it go on after Pause.
func (z *ZooKeeper) Resume() { z.signal(syscall.SIGCONT) }

func (z *ZooKeeper) signal(s os.Signal) {
	z.t.Helper()
	if err := z.process.Process.Signal(s); err != nil {
		z.t.Fatal(err)
	}
}
