package trpc

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// rows are the rows of the tables in a section of the README, by cells.
func rows(t *testing.T, section string) (out [][]string) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("no section %q", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		out = append(out, cells)
	}
	if len(out) < 2 {
		t.Fatalf("section %q has no table", section)
	}
	return out[1:]
}

// TestReadmeCodes: the table of codes is what the code does.
func TestReadmeCodes(t *testing.T) {
	told := map[int32]bool{}
	for _, row := range rows(t, "Codes") {
		for number := range strings.SplitSeq(row[0], ", ") {
			ret, err := strconv.ParseInt(number, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			told[int32(ret)] = true
			v, ok := verdictOf(int32(ret))
			if !ok || rpc.CodeName(v.code) != row[1] || strconv.Itoa(v.status) != row[2] || v.executed != (row[3] == "no") {
				t.Errorf("%s: %+v, the README has %q", number, v, row[1:])
			}
		}
	}
	for ret := int32(-10); ret < 2000; ret++ {
		v, ok := verdictOf(ret)
		if stream := ret > 200 && ret < 400; ok && !told[ret] && (!stream || v != verdict{13, 502, true}) {
			t.Errorf("%d is not told: %+v", ret, v)
		}
	}
}

// TestReadmeOptions: every option is told, and no other.
func TestReadmeOptions(t *testing.T) {
	for section, m := range map[string]protoreflect.ProtoMessage{
		"Services behind the gateway": &trpcv1.Options{}, "Clients before the gateway": &trpcv1.Listener{},
	} {
		fields := m.ProtoReflect().Descriptor().Fields()
		told := rows(t, section)
		for _, row := range told {
			if fields.ByName(protoreflect.Name(strings.Trim(row[0], "`"))) == nil {
				t.Errorf("%s: %s is no option", section, row[0])
			}
		}
		if len(told) != fields.Len() {
			t.Errorf("%s: %d options are told of %d", section, len(told), fields.Len())
		}
	}
}
