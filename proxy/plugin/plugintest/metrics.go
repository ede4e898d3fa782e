package plugintest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// sample is a line of a scrape: name and labels.
var sample = regexp.MustCompile(`(?m)^(causeway_[a-z0-9_]+)\{([^}]*)\}`)

// Metrics holds the README's table of metrics against what the meter of an env shows of a plugin's own, causeway_<plugin>_...: every
// name, with its labels, in a row "| `name` | `label`, `label` |", and no name that is not there.
func Metrics(t *testing.T, kind plugin.Kind, env plugin.Env) {
	t.Helper()
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, m := range sample.FindAllStringSubmatch(Scrape(t, env), -1) {
		if !strings.HasPrefix(m[1], "causeway_"+kind.Name+"_") {
			continue
		}
		var labels []string
		for pair := range strings.SplitSeq(m[2], ",") {
			name, _, _ := strings.Cut(pair, "=")
			labels = append(labels, "`"+name+"`")
		}
		slices.Sort(labels)
		shown[m[1]] = strings.Join(labels, ", ")
	}
	if len(shown) == 0 {
		t.Error("no metrics")
	}
	told := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(causeway_[a-z0-9_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(raw), -1) {
		labels := strings.Split(m[2], ", ")
		slices.Sort(labels)
		told[m[1]] = strings.Join(labels, ", ")
	}
	if !maps.Equal(shown, told) {
		t.Errorf("want the metrics and labels %v in the README, found %v", shown, told)
	}
}
