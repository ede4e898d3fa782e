package realserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// prometheusPackage is Debian's package of Prometheus and promtool.
const prometheusPackage = "prometheus"

// Prometheus is Debian's Prometheus as a child of the test.
type Prometheus struct {
	t   testing.TB
	url string
}

// StartPrometheus starts it with the rules of a file, scraping /metrics of target (host:port) with a bearer token five times a
// second as the job "causeway", and waits until it serves. It ends with the test.
func StartPrometheus(t testing.TB, target, token, rules string) *Prometheus {
	t.Helper()
	binary := Need(t, "prometheus", prometheusPackage)
	dir := t.TempDir()
	address, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: 200ms, evaluation_interval: 200ms}
rule_files: [%q]
scrape_configs:
  - job_name: causeway
    metrics_path: /metrics
    authorization: {credentials: %q}
    static_configs: [{targets: [%q]}]
`, rules, token, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(dir, "output")) //nolint:gosec // a folder of the test
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), //nolint:gosec // a program that the test needs
		"--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it has ended before
		cmd.Wait()         //nolint:errcheck // it was killed
		output.Close()     //nolint:errcheck // as above
	})
	p := &Prometheus{t: t, url: "http://" + address}
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := p.get("/-/ready", nil); err == nil {
			return p
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(output.Name())
			t.Fatalf("Prometheus does not serve: %v\n%s", err, said)
		}
	}
}

func (p *Prometheus) get(path string, query url.Values) ([]byte, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(p.url + path + "?" + query.Encode()) //nolint:noctx // the client has a timeout
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, raw)
	}
	return raw, err
}

// Sample is one series of an answer.
type Sample struct {
	Metric map[string]string
	Value  [2]any // time and value
}

// Query asks an instant query.
func (p *Prometheus) Query(query string) ([]Sample, error) {
	raw, err := p.get("/api/v1/query", url.Values{"query": {query}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct{ Result json.RawMessage }
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	var samples []Sample
	err = json.Unmarshal(answer.Data.Result, &samples)
	return samples, err
}

// LabelValues are the values of a label that the series of a selector have.
func (p *Prometheus) LabelValues(label, selector string) ([]string, error) {
	raw, err := p.get("/api/v1/label/"+label+"/values", url.Values{"match[]": {selector}})
	if err != nil {
		return nil, err
	}
	var answer struct{ Data []string }
	err = json.Unmarshal(raw, &answer)
	return answer.Data, err
}

// Promtool runs promtool in a folder and returns what it says.
func Promtool(t testing.TB, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Need(t, "promtool", prometheusPackage), args...) //nolint:gosec // as above
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
