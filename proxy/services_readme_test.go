package proxy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/proxy/config"
)

// The examples of the page on services are configurations: what they leave out is put beside them, and then they are checked.
func TestServicesReadme(t *testing.T) {
	raw, err := os.ReadFile("services.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(raw), -1)
	if len(examples) != 4 {
		t.Fatalf("want 4 examples, found %d", len(examples))
	}
	for _, e := range examples {
		text := "listen: [{address: \":8080\"}]\nschemas: [{name: orders, descriptor_set: orders.binpb}]\n" + e[1]
		if !strings.Contains(text, "registries:") {
			text += "registries: [{name: zk, zookeeper: {servers: [\"127.0.0.1:2181\"]}}]\n"
		}
		if _, err := config.Parse("causeway.yaml", []byte(text), config.Types{Adapters: config.Messages{"grpc": nil}}); err != nil {
			t.Errorf("%s\n%v", e[1], err)
		}
	}
}
