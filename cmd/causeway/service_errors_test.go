package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/registry"
)

// TestServiceErrors holds the words that users see, and the exit codes. ZK stands for the server's address.
func TestServiceErrors(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	c := zkAt(t, addr)
	registerAt(t, c, "shop.v1.Orders", registry.Endpoint{Address: "10.0.0.1:1"})
	if err := registerAt(t, c, "empty.E", registry.Endpoint{Address: "10.0.0.2:1"}).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	none := fileOf(t, "no colon")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"service", exitUsage, "name a command: drain, inspect, list, register, undrain, watch; see causeway service --help"},
		{"service lst", exitUsage, `there is no command "lst"; did you mean "list"?; see causeway service --help`},
		{"service inspect", exitUsage, "accepts between 1 and 2 arg(s), received 0; see causeway service inspect --help"},
		{"service drain a", exitUsage, "requires at least 2 arg(s), only received 1; see causeway service drain --help"},
		{"zk --address nowhere", exitUsage, `--address "nowhere": want HOST:PORT of this machine: listen tcp: address nowhere: missing port in address`},
		{"zk --tick 1h", exitUsage, "--tick 1h0m0s: want 10ms to 1m"},

		{"service list --zookeeper nowhere", exitUsage, `--zookeeper "nowhere": want HOST:PORT,..., such as 127.0.0.1:2181`},
		{"service list --zookeeper ,", exitUsage, `--zookeeper ",": want HOST:PORT,..., such as 127.0.0.1:2181`},
		{"service list --auth-file " + none, exitUsage, "want user:password in --auth-file, or in CAUSEWAY_ZOOKEEPER_AUTH"},
		{"service list --zookeeper-cert x", exitUsage, "give --zookeeper-cert and --zookeeper-key together"},
		{"service list --layout dubo", exitUsage, `--layout "dubo": want native, dubbo, curator, kratos, seed; did you mean "dubbo"?`},
		{"service list --root causeway", exitUsage, `--root "causeway": want a node such as /causeway`},
		{"service inspect a/b", exitUsage, `a service's name has no '/', found "a/b"`},
		{"service watch a/b", exitUsage, `a service's name has no '/', found "a/b"`},
		{"service drain a/b c", exitUsage, `a service's name has no '/', found "a/b"`},

		{"service inspect shop.v1.Order", exitFailure, `there is no service "shop.v1.Order"; did you mean "shop.v1.Orders"?`},
		{"service inspect nothing", exitFailure, "there is no service \"nothing\"; `causeway service list` lists those that are"},
		{"service inspect a --layout dubbo", exitFailure, `there is no service "a", and no other either; are --zookeeper, --root and --layout right?`},
		{"service inspect empty.E", exitFailure, "empty.E has no instances"},
		{"service inspect shop.v1.Orders two", exitFailure, "shop.v1.Orders has no instance \"two\"; `causeway service inspect shop.v1.Orders` lists those that are"},
		{"service drain shop.v1.Orders 10.0.0.1-2", exitFailure, `shop.v1.Orders has no instance "10.0.0.1-2"; did you mean "10.0.0.1-1"?`},
		{"service undrain empty.E a", exitFailure, "empty.E has no instances"},
		{"service drain nothing a", exitFailure, "there is no service \"nothing\"; `causeway service list` lists those that are"},

		{"service register", exitUsage, "give --service: the name that callers know the service by"},
		{"service register --service a", exitUsage, "give --address: HOST:PORT at which gateways reach the instance"},
		{"service register --service a --address b:1", exitUsage, "give --check grpc, http or tcp, so that calls come only while the instance answers, or --check none"},
		{"service register --service a --address b:1 --check gprc", exitUsage, `--check "gprc": want grpc, http, tcp, none; did you mean "grpc"?`},
		{"service register --service a/b --address b:1 --check tcp", exitUsage, `a service's name has no '/', found "a/b"`},
		{"service register --service a --address 0.0.0.0:1 --check tcp", exitUsage, "want an address that others can reach, found 0.0.0.0:1"},
		{"service register --service a --address b --check tcp", exitUsage, `want an address as host:port, found "b": address b: missing port in address`},
		{"service register --service a --address b:1 --check none --hold", exitUsage, "--hold needs a check: give --check grpc, http or tcp"},
		{"service register --service a --address b:1 --check tcp --weight 0", exitUsage, "--weight 0: want 1 or more; to keep calls away use `causeway service drain`"},
		{"service register --service a --address b:1 --check tcp --interval 1ms", exitUsage, "--interval 1ms: want 100ms or more"},
		{"service register --service a --address b:1 --check tcp --beat 1ms", exitUsage, "--beat 1ms: want 1s or more, or 0 for none"},
		{"service register --service a --address b:1 --check tcp --drain -1s", exitUsage, "--drain -1s, --grace 30s: want no less than 0"},
		{"service register --service a --address b:1 --check tcp --session 1ms", exitUsage, "--session 1ms: want 1s or more"},
		{"service register --service a --address b:1 --check tcp --check-failures 0", exitUsage, "--check-failures 0: want 1 or more"},
		{"service register --service a --address b:1 --check tcp --check-address c", exitUsage, `--check-address "c": want HOST:PORT`},
		{"service register --service a --address b:1 --check tcp --meta x", exitUsage, `--meta "x": want KEY=VALUE`},
		{"service register --service a --address b:1 --check tcp --meta version=1", exitUsage, `--meta "version=1": version has a place of its own: give --version`},
		{"service register --service a --address b:1 --check tcp server", exitUsage, `found "server": a program to run stands behind --; see causeway service register --help`},
		{"service register --service a --address b:1 --check tcp -- no-such-program x", exitNotFound, `want a program behind --: exec: "no-such-program": executable file not found in $PATH`},
		{"service register --service a --address b:1 --check http --check-path /a#b", exitUsage, "--check-path \"/a#b\": want a path that begins with / and has what is not printable ASCII percent-encoded, found \"/a#b\""},
		{"service register --service a --address b:1 --check tcp --log-format x", exitUsage, `--log-format "x": want auto, text or json`},
	} {
		args := strings.Fields(tc.args)
		if args[0] == "service" && len(args) > 2 && !strings.Contains(tc.args, "--zookeeper ") {
			args = slices.Insert(args, 2, "--zookeeper", addr)
		}
		out, _, err := causeway(t, args...)
		if err == nil || exitCode(err) != tc.code || err.Error() != tc.want || out != "" {
			t.Errorf("%s:\nwant exit code %d and %s\nfound %v, and %q on standard output", tc.args, tc.code, tc.want, err, out)
		}
	}
	for _, args := range []string{"service list", "service watch", "service inspect a", "service drain a b"} {
		_, _, err := causeway(t, append(strings.Fields(args), "--zookeeper", "127.0.0.1:1,127.0.0.1:2")...)
		const begin, end = "no ZooKeeper answers at 127.0.0.1:1, 127.0.0.1:2 (tried for ", "connection refused; is --zookeeper right? For development, `causeway zk` runs one"
		if err == nil || exitCode(err) != exitUnreachable || !strings.HasPrefix(err.Error(), begin) || !strings.HasSuffix(err.Error(), end) {
			t.Errorf("%s: found %v", args, err)
		}
	}
}
