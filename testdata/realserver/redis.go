package realserver

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Redis is Debian's Redis as a child of the test: one server that keeps nothing on disk.
type Redis struct {
	Address string // host:port, the same over a restart

	t       testing.TB
	binary  string
	dir     string
	args    []string
	process *exec.Cmd
	output  *os.File
}

// StartRedis starts it and waits until it serves. args are further arguments of redis-server. It ends with the test.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	r := &Redis{t: t, binary: Need(t, "redis-server", "redis-server"), dir: t.TempDir(), args: args}
	var err error
	if r.Address, err = FreeAddress(); err != nil {
		t.Fatal(err)
	}
	if r.output, err = os.Create(filepath.Join(r.dir, "output")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Kill()
		_ = r.output.Close() // nobody reads it
	})
	r.Start()
	return r
}

// Start starts it again, empty.
func (r *Redis) Start() {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.Address)
	r.process = exec.Command(r.binary, append([]string{ //nolint:gosec,noctx // the binary that was looked for; it ends with Kill
		"--bind", host, "--port", port, "--dir", r.dir, "--save", "", "--appendonly", "no", "--enable-debug-command", "local",
	}, r.args...)...)
	r.process.Dir = r.dir
	r.process.Stdout, r.process.Stderr = r.output, r.output
	r.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", r.Address, time.Second) //nolint:noctx // it waits for a second at most
		if err == nil {
			_ = c.Close() // it was only tried
			return
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(filepath.Join(r.dir, "output"))
			r.t.Fatalf("Redis does not serve: %v\n%s", err, said)
		}
	}
}

// Do sends one command and returns the first line of the answer. It does not wait for it where answer is false.
func (r *Redis) Do(answer bool, command ...string) string {
	r.t.Helper()
	c, err := net.DialTimeout("tcp", r.Address, time.Second) //nolint:noctx // it waits for a second at most
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()                // the answer is there
	c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // the read would show it
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		r.t.Fatal(err)
	}
	if !answer {
		time.Sleep(10 * time.Millisecond) // a command of a client that has left before is not run
		return ""
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// Kill ends it at once, with all that it had.
func (r *Redis) Kill() {
	if r.process == nil || r.process.Process == nil {
		return
	}
	r.process.Process.Kill() //nolint:errcheck // it has ended before
	r.process.Wait()         //nolint:errcheck // it was killed
	r.process = nil
}

// Pause stops it without a word to its clients.
func (r *Redis) Pause() { r.signal(syscall.SIGSTOP) }

// Resume lets it go on after Pause.
func (r *Redis) Resume() { r.signal(syscall.SIGCONT) }

func (r *Redis) signal(s os.Signal) {
	r.t.Helper()
	if err := r.process.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}
