package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one started process. The bench ends every one it starts; should the bench itself be killed, the kernel
// kills them (Pdeathsig), and a role also ends with its standard input.
type process struct {
	name    string
	address string
	cmd     *exec.Cmd
	stdin   io.Closer
	errors  *tail
	helpers []*process    // what it needs beside the backend; they end with it
	ended   chan struct{} // closed when the process has been waited for
}

// stopGrace is how long a process may take to end by itself before it is killed.
const stopGrace = 3 * time.Second

// startRole starts the bench itself in a role and waits until it listens.
func startRole(name string, maxProcs int, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, out, err := start(name, maxProcs, self, append([]string{"role"}, args...)...)
	if err != nil {
		return nil, err
	}
	if p.address, err = readAddress(bufio.NewReader(out)); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w%s", name, err, p.errors)
	}
	return p, nil
}

// start starts a program with GOMAXPROCS set (0: left to the runtime) and every other knob of the Go runtime at its
// default. The reader gives its standard output.
func start(name string, maxProcs int, path string, args ...string) (*process, io.Reader, error) {
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // the bench itself or the binary it built; ended by stop
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "GOMAXPROCS" || name == "GOGC" || name == "GOMEMLIMIT" || name == "GODEBUG"
	})
	if maxProcs > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(maxProcs))
	}
	// A group of its own: Ctrl-C reaches the bench only, which then ends what it started in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: name, cmd: cmd, errors: &tail{}, ended: make(chan struct{})}
	cmd.Stderr = p.errors
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		_ = out.Close()
		close(p.ended)
	}()
	return p, out, nil
}

// stop ends the process and waits for its end.
func (p *process) stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stopGrace, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
	for _, h := range p.helpers {
		h.stop()
	}
}

// cpu is the processor time a process has used.
type cpu struct {
	total     time.Duration // user and system, exact to the scheduler's nanoseconds
	user, sys time.Duration // in the kernel's ticks of 10 ms
}

func (a cpu) minus(b cpu) cpu { return cpu{a.total - b.total, a.user - b.user, a.sys - b.sys} }

// cpuTime asks the kernel what processor time a process has used, threads that have ended included: its CPU clock
// (clock_getcpuclockid(3)) counts nanoseconds of user and system time; /proc/PID/stat says how they divide.
func cpuTime(pid int) (cpu, error) {
	var ts unix.Timespec
	const scheduler = 2                                                      // CPUCLOCK_SCHED of linux/posix-timers.h
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts); err != nil { //nolint:gosec // a pid has 22 bits
		return cpu{}, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	c := cpu{total: time.Duration(ts.Nano())}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return cpu{}, err
	}
	// The fields are counted behind the name, which may hold spaces: utime is the 12th and stime the 13th (proc(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return cpu{}, fmt.Errorf("/proc/%d/stat: want 13 fields or more, got %d", pid, len(fields))
	}
	for i, d := range []*time.Duration{&c.user, &c.sys} {
		ticks, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return cpu{}, err
		}
		*d = time.Duration(ticks) * 10 * time.Millisecond
	}
	return c, nil
}

// freeAddress returns an address of the loopback that nobody listens on now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail keeps the last bytes that a process wrote to its standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String is what is kept, ready to be hung on an error's text.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return ""
	}
	return "\nits standard error ends with:\n" + string(bytes.TrimRight(t.text, "\n"))
}
