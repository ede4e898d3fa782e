package http2

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// h2specMisses are the cases that may fail, by section and number, each with its reason.
var h2specMisses = map[string]string{}

// h2specCases is how many cases the pinned h2spec runs.
const h2specCases = 145

// report is what h2spec writes for -junit-report.
type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		ID      string `xml:"id,attr"`
		Cases   []struct {
			Name    string    `xml:"classname,attr"`
			Skipped *struct{} `xml:"skipped"`
			Failure *struct {
				Text string `xml:",chardata"`
			} `xml:"failure"`
			Error *struct {
				Text string `xml:",chardata"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// Every case of h2spec, in plain text and over TLS.
func TestH2spec(t *testing.T) {
	tool := realserver.Need(t, "../../../bin/h2spec", "make bin/h2spec")
	// h2spec wants an answer with a body of some length, and reads away what it posts.
	h := func(_ context.Context, x *wire.Exchange) {
		if _, err := io.Copy(io.Discard, x); err != nil {
			return
		}
		_ = x.Respond(200, rpc.Metadata{{Key: "content-type", Value: "text/plain"}}, []byte("hello from the other side of h2spec"))
	}
	for _, secure := range []bool{false, true} {
		t.Run("tls="+strconv.FormatBool(secure), func(t *testing.T) {
			var s *listening
			args := []string{"-o", "2"}
			if secure {
				s = serve(t, Limits{}, serverTLS(t), h)
				args = append(args, "-t", "-k")
			} else {
				s = serve(t, Limits{}, nil, h)
			}
			_, port, err := net.SplitHostPort(s.address)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "report.xml")
			args = append(args, "-p", port, "-j", out)
			said, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatalf("%v; h2spec said %s", err, said)
			}
			var r report
			if err := xml.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			cases, passed := 0, 0
			for _, suite := range r.Suites {
				for i, c := range suite.Cases {
					cases++
					id := suite.Package + "/" + strconv.Itoa(i+1)
					reason, known := h2specMisses[id]
					switch {
					case c.Failure == nil && c.Error == nil && c.Skipped == nil:
						passed++
					case c.Skipped != nil:
						t.Errorf("%s %s: skipped", id, c.Name)
					case known:
						t.Logf("%s %s: a known miss: %s", id, c.Name, reason)
					case c.Failure != nil:
						t.Errorf("%s %s: %s", id, c.Name, c.Failure.Text)
					default:
						t.Errorf("%s %s: %s", id, c.Name, c.Error.Text)
					}
				}
			}
			t.Logf("%d of %d cases pass", passed, cases)
			if cases != h2specCases || passed+len(h2specMisses) < cases {
				t.Errorf("want %d of %d cases to pass, found %d of %d", h2specCases-len(h2specMisses), h2specCases, passed, cases)
			}
		})
	}
}
