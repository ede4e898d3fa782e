package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry/zookeeper"
)

// neighbourCommand makes the test binary somebody else who uses a ZooKeeper: it lists the children of a node every 20 ms. Told
// "from" it begins to count, told "to" it says how many answers there were, and the 99th percentile and the longest of their times
// in µs.
const neighbourCommand = "causeway-proof-neighbour"

func beNeighbour() {
	c, err := zookeeper.Connect(zookeeper.Config{Servers: []string{os.Args[1]}, Session: 10 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var from time.Time
	var took []int64
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			if c.Err() != nil { // an outage is not what is measured, nor the wait for its end
				continue
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := c.Services(ctx, zookeeper.Kratos{Root: os.Args[2]})
			cancel()
			mu.Lock()
			if (err == nil || c.Err() == nil) && !from.IsZero() && began.After(from) {
				took = append(took, time.Since(began).Microseconds())
			}
			mu.Unlock()
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		mu.Lock()
		switch in.Text() {
		case "from":
			from, took = time.Now(), nil
		case "to":
			slices.Sort(took)
			p99, most := int64(0), int64(0)
			if n := len(took); n > 0 {
				p99, most = took[min(n*99/100, n-1)], took[n-1]
			}
			fmt.Fprintln(os.Stdout, len(took), p99, most)
		}
		mu.Unlock()
	}
	os.Exit(0)
}

// neighbour is a process of its own, as somebody on another machine would be.
type neighbour struct {
	t    testing.TB
	pid  int
	in   io.Writer
	said *bufio.Reader
}

func startNeighbour(t testing.TB, servers, node string) *neighbour {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), neighbourCommand, servers, node)
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
		_ = in.Close() // that ends it
		_ = cmd.Wait() // it may have been killed
	})
	return &neighbour{t: t, pid: cmd.Process.Pid, in: in, said: bufio.NewReader(out)}
}

// begin has it count from now on.
func (n *neighbour) begin() { n.tell("from") }

func (n *neighbour) tell(word string) {
	n.t.Helper()
	if _, err := io.WriteString(n.in, word+"\n"); err != nil {
		n.t.Fatal(err)
	}
}

// end is how many answers it has had since begin, and how long they took.
func (n *neighbour) end() (answers int, p99, most time.Duration) {
	n.t.Helper()
	n.tell("to")
	line, err := n.said.ReadString('\n')
	if err != nil {
		n.t.Fatal(err)
	}
	var a, b int64
	if _, err := fmt.Sscan(line, &answers, &a, &b); err != nil {
		n.t.Fatal(err)
	}
	return answers, time.Duration(a) * time.Microsecond, time.Duration(b) * time.Microsecond
}

// favour lets processes run before others on this machine, as far as the user of the tests may: what they take is to be what they
// take on machines of their own.
func favour(pids ...int) bool {
	all := true
	for _, pid := range pids {
		threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
		all = all && err == nil && len(threads) > 0
		for _, thread := range threads {
			id, err := strconv.Atoi(strings.TrimSpace(filepath.Base(thread)))
			if err != nil || syscall.Setpriority(syscall.PRIO_PROCESS, id, -15) != nil {
				all = false
			}
		}
	}
	return all
}
