package tarswire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// inJSON shows a message in wire form, with the names of the IDL.
func inJSON(t testing.TB, wire []byte, m *tarswire.Message) string {
	t.Helper()
	d := dynamicpb.NewMessage(m.Schema.Desc)
	if err := proto.Unmarshal(wire, d); err != nil {
		t.Fatalf("%x: %v", wire, err)
	}
	raw, err := protojson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil { // protojson varies its white space
		t.Fatal(err)
	}
	return b.String()
}

// TestCaptures: every body that the SDKs exchanged decodes to what testdata/captures.txt says, in which the comments of the
// captures can be found again; and what is encoded from it decodes to the same in the reference codec. With
// CAUSEWAY_REFRESH=captures.txt the file is written.
func TestCaptures(t *testing.T) {
	s := kit(t)
	var got strings.Builder
	bodies := 0
	for _, c := range exchanges(t) {
		if _, ok := s.Method("/Kit.Echo/" + c.function); !ok || c.version != 1 && c.version != 3 {
			continue
		}
		f := function(t, s, "/Kit.Echo/"+c.function)
		for _, side := range []struct {
			name string
			body []byte
			m    *tarswire.Message
		}{{"request", c.request, f.In}, {"response", c.response, f.Out}} {
			if side.body == nil || side.m == f.Out && c.ret != 0 {
				continue
			}
			decode, encode := tarswire.AppendWire, tarswire.AppendTARS
			if c.version == 3 {
				decode, encode = tarswire.AppendTUPWire, tarswire.AppendTUP
			}
			wire, err := decode(nil, side.body, side.m, nil)
			if err != nil {
				t.Errorf("%s %s: %v", c.name, side.name, err)
				continue
			}
			bodies++
			text := inJSON(t, wire, side.m)
			fmt.Fprintf(&got, "%s %s %s\n", c.name, side.name, text)
			// The way from JSON, as a REST call takes it.
			rest, err := jsonwire.AppendJSON(nil, wire, side.m.Schema, nil)
			if err != nil {
				t.Errorf("%s %s to JSON: %v", c.name, side.name, err)
				continue
			}
			given, err := jsonwire.AppendWire(nil, rest, side.m.Schema, nil)
			if err != nil {
				t.Errorf("%s %s from JSON: %v", c.name, side.name, err)
			} else if again := inJSON(t, given, side.m); again != text {
				t.Errorf("%s %s from JSON is %s", c.name, side.name, again)
			}
			again, err := encode(nil, wire, side.m, nil)
			if err != nil {
				t.Errorf("%s %s again: %v", c.name, side.name, err)
				continue
			}
			if c.version == 3 {
				wire2, err := decode(nil, again, side.m, nil)
				if err != nil || !bytes.Equal(wire, wire2) {
					t.Errorf("%s %s: %x is %x (%v) after TUP", c.name, side.name, wire, wire2, err)
				}
				continue
			}
			want, err := refDecode(side.body, side.m.Schema.Desc)
			if err != nil {
				t.Errorf("%s %s by the reference: %v", c.name, side.name, err)
				continue
			}
			have, err := refDecode(again, side.m.Schema.Desc)
			if err != nil {
				t.Errorf("%s %s again by the reference: %v", c.name, side.name, err)
				continue
			}
			if diff := cmp.Diff(want, have, protocmp.Transform()); diff != "" {
				t.Errorf("%s %s (-reference +again):\n%s", c.name, side.name, diff)
			}
		}
	}
	if bodies < 120 {
		t.Errorf("%d bodies were decoded, want at least 120", bodies)
	}
	golden(t, "captures.txt", got.String())
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if ok, _ := filepath.Match(os.Getenv("CAUSEWAY_REFRESH"), file); ok {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestSameBytes: where nothing is left out and no out parameter is in the request, TarsGo's bytes come out.
func TestSameBytes(t *testing.T) {
	s := kit(t)
	same := 0
	for _, c := range exchanges(t) {
		if _, ok := s.Method("/Kit.Echo/" + c.function); !ok || c.version != 1 || c.ret != 0 || !strings.HasPrefix(c.name, "go/") {
			continue
		}
		f := function(t, s, "/Kit.Echo/"+c.function)
		switch c.name {
		case "go/transform", "go/meta": // out parameters in the request
		case "go/echonode_defaults", "go/scalars_zero", "go/probe_echonode_no_optional_struct_member": // defaults are left out there
		default:
			for _, side := range []struct {
				body []byte
				m    *tarswire.Message
			}{{c.request, f.In}, {c.response, f.Out}} {
				if side.body == nil {
					continue
				}
				wire, err := tarswire.AppendWire(nil, side.body, side.m, nil)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				again, err := tarswire.AppendTARS(nil, wire, side.m, nil)
				if err != nil || !bytes.Equal(again, side.body) {
					t.Errorf("%s: %x became %x (%v)", c.name, side.body, again, err)
				}
				same++
			}
		}
	}
	if same < 58 {
		t.Errorf("%d bodies were compared, want at least 58", same)
	}
}

// TestCpp: the structs that the C++ SDK encodes.
func TestCpp(t *testing.T) {
	s := kit(t)
	text, err := os.ReadFile(filepath.Join(captures, "cpp/structs.hex"))
	if err != nil {
		t.Fatal(err)
	}
	functions := map[string]string{"cpp_node_defaults": "echoNode", "cpp_node_full": "echoNode", "cpp_scalars_zero": "scalars", "cpp_nasty_empty": "nasty"}
	var got strings.Builder
	n := 0
	for line := range strings.Lines(string(text)) {
		name, data, _ := strings.Cut(strings.TrimSpace(line), " ")
		raw, err := hex.DecodeString(data)
		if functions[name] == "" || err != nil {
			continue
		}
		f := function(t, s, "/Kit.Echo/"+functions[name])
		wire, err := tarswire.AppendWire(nil, raw, f.In, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		fmt.Fprintf(&got, "%s %s\n", name, inJSON(t, wire, f.In))
		n++
	}
	if n != len(functions) {
		t.Errorf("%d structs, want %d", n, len(functions))
	}
	golden(t, "cpp.txt", got.String())
}
