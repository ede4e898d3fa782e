package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/reflect/protoreflect"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// The scripts run the whole program. Each has an echo service at $ECHO, free addresses $LISTEN and $ADMIN, and the
// service's descriptors in echo.binpb.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "../../testdata/scripts",
		UpdateScripts: os.Getenv("CAUSEWAY_REFRESH") != "",
		Setup: func(e *testscript.Env) error {
			tb := e.T().(testing.TB) //nolint:errcheck // testscript.Run hands over a *testing.T
			e.Setenv("ECHO", echo.Start(tb, "127.0.0.1:0", "a").Address)
			e.Setenv("ECHO2", reserve(tb))
			e.Setenv("LISTEN", reserve(tb))
			e.Setenv("ADMIN", reserve(tb))
			e.Setenv("ZK", reserve(tb))
			e.Setenv("GORACE", os.Getenv("GORACE")) // how long a program with the race detector stays after its end
			for name, file := range map[string]protoreflect.FileDescriptor{"echo": echov1.File_demo_echo_v1_echo_proto, "orders": ordersv1.File_demo_orders_v1_orders_proto} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name+".binpb"), descriptors.Encode(tb, file), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serving": serving,
			"code":    code,
			"fill":    fill,
			"get":     get,
			"until":   until,
			"settled": settled,
		},
	})
}

// serving waits until something accepts connections at an address.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serving ADDR")
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.DialTimeout("tcp", args[0], time.Second)
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nothing serves %s: %v", args[0], err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// code runs the program and checks its exit code: code N ARGS...
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: code N ARGS...")
	}
	got := "0"
	if err := ts.Exec("causeway", args[1:]...); err != nil {
		got = exitText(err)
	}
	if got != args[0] {
		ts.Fatalf("want exit code %s, found %s", args[0], got)
	}
}

func exitText(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return strconv.Itoa(e.ExitCode())
	}
	return err.Error()
}

// fill replaces the variables in a file: fill FILE.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fill FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// get wants 200 of an URL, or with ! any other status; its body is the standard output.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	a, err := trySend(client, http.MethodGet, args[0], "")
	ts.Check(err)
	if _, err := fmt.Fprintln(ts.Stdout(), a.body); err != nil {
		ts.Fatalf("%v", err)
	}
	if (a.status == http.StatusOK) == neg {
		ts.Fatalf("found %d %s", a.status, a.body)
	}
}

// until waits until readyz?verbose says something: until ADMIN TEXT. The token is that of the folder.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: until ADMIN TEXT")
	}
	token := strings.TrimSpace(ts.ReadFile(filepath.Join(".causeway", tokenFile)))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for deadline := time.Now().Add(30 * time.Second); ; {
		a, err := trySend(client, http.MethodGet, "http://"+args[0]+"/readyz?verbose", "", "Authorization", "Bearer "+token)
		ts.Check(err)
		if strings.Contains(a.body, args[1]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited 30 s in vain for %q, found %s", args[1], a.body)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
