package zookeeper

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// jars are what Register.java needs, as Debian has them.
const jars = "/usr/share/java/curator-recipes.jar:/usr/share/java/curator-framework.jar:/usr/share/java/curator-client.jar:" +
	"/usr/share/java/zookeeper.jar:/usr/share/java/guava.jar:/usr/share/java/slf4j-api.jar"

// testExamples runs the examples in other languages: they announce themselves, take the place of their own ghost, and drain
// on SIGTERM.
//
// Java takes its time to compile and to start: one of the servers is enough for it, and it has to be the one whose sessions last
// longer than that, or the ghost may end in the moment in which it is met.
func testExamples(t *testing.T, addr string, session time.Duration, javaToo bool) {
	conn := connect(t, Config{Servers: []string{addr}, Session: session})
	for name, program := range map[string]func(t *testing.T) []string{
		"register.py": func(t *testing.T) []string {
			t.Helper()
			realserver.Need(t, "/usr/bin/python3", "python3-kazoo") // Debian's own: another one would not find Debian's modules
			if out, err := exec.Command("/usr/bin/python3", "-c", "import kazoo").CombinedOutput(); err != nil {
				realserver.Missing(t, "the module kazoo", "python3-kazoo", fmt.Errorf("%w: %s", err, out))
			}
			return []string{"/usr/bin/python3", "examples/register.py"}
		},
		"Register.java": func(t *testing.T) []string {
			t.Helper()
			realserver.Need(t, "javac", "default-jdk-headless")
			for jar := range strings.SplitSeq(jars, ":") {
				if _, err := os.Stat(jar); err != nil {
					realserver.Missing(t, jar, "libcurator-recipes-java", err)
				}
			}
			return []string{realserver.Need(t, "java", "default-jdk-headless"), "-XX:TieredStopAtLevel=1", "-cp", jars, "examples/Register.java"}
		},
	} {
		if name == "Register.java" && !javaToo {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := "from." + name
			args := append(program(t), addr, service, "10.0.3.7", "9000", "4") // seconds in which it is to be seen draining
			start := func() *exec.Cmd {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Stderr = os.Stderr
				if !testing.Verbose() {
					cmd.Stderr = nil
				}
				cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				return cmd
			}
			sink, stop := registrytest.Watch(t, &Resolver{Conn: conn}, service)
			defer stop() //nolint:errcheck // the context's error
			first := start()
			sink.Wait("10.0.3.7:9000")
			owner := func() int64 {
				entries, err := conn.Inspect(short(t), nil, service)
				if err != nil || len(entries) != 1 {
					return 0
				}
				return entries[0].Owner
			}
			before := owner()
			if err := first.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			first.Wait() //nolint:errcheck // it was killed
			second := start()
			eventually(t, "the node of the new process", func() bool { o := owner(); return o != 0 && o != before })
			sink.Wait("10.0.3.7:9000")
			t.Logf("the place was seen empty %d times", sink.Emptied())
			if err := second.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			sink.WaitSet("it draining", func(s registry.Set) bool {
				return len(s.Endpoints) == 1 && s.Endpoints[0].Status == registry.Draining
			})
			sink.Wait()
			second.Wait() //nolint:errcheck // Java ends with 143 after a signal
		})
	}
}
