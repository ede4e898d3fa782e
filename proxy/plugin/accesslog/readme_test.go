package accesslog

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

// TestReadmeNamesEveryField holds the table of the line against a line with every field.
func TestReadmeNamesEveryField(t *testing.T) {
	text, _ := plugintest.Examples(t, "README.md")
	c, sent := okCall(t)
	c.HTTP.Header.Add("x-tenant", "acme")
	c.Reply.Header.Add("x-cache", "hit")
	c.Claims = rpc.Claims{"sub": "7"}
	c.Consumer.GroupList = "a,b"
	conf := &accesslogv1.AccessLog{
		Fields: append([]string{"default"}, furtherFields()...), RequestHeaders: []string{"x-tenant"},
		ResponseHeaders: []string{"x-*"}, Claims: []string{"sub"},
	}
	sent.Reason, sent.Err = "REASON", io.EOF
	line := map[string]any{}
	if err := json.Unmarshal(layoutOf(t, conf).appendLine(nil, c, &sent, nil), &line); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(text, "## The line")
	table, _, _ = strings.Cut(table, "## Secrets")
	for field := range line {
		if !strings.Contains(table, "`"+field+"`") {
			t.Errorf("the field %s is not in the README's table", field)
		}
	}
	if len(line) != 31 {
		t.Errorf("a full line has %d fields, want 31", len(line))
	}
}
