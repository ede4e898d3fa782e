package tarswire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/testdata/realserver"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// forNode has what the codec for Node.js can hold: no keys that are bool or enum, which it makes strings of.
const forNode = `
module Js
{
    enum E { A, B = 300, C = -1 };
    struct Point { 0 require int x; 1 optional string label = "p"; };
    struct All
    {
        0 require bool b; 1 require byte i8; 2 require short i16; 3 require int i32; 4 require long i64;
        5 require unsigned byte u8; 6 require unsigned short u16; 7 require unsigned int u32;
        8 require float f; 9 require double d; 10 require string s; 11 optional E e = B;
        12 optional vector<byte> bytes; 13 optional vector<unsigned byte> ubytes; 14 optional vector<string> strings;
        15 optional vector<Point> points; 16 optional map<string, int> counts; 17 optional map<int, Point> byId;
        18 optional map<Point, vector<short> > grid; 19 optional vector<vector<vector<byte> > > deep;
        20 optional map<string, map<int, double> > nested; 21 optional vector<map<string, string> > rows;
        22 optional vector<bool> flags; 23 optional vector<float> floats; 24 optional vector<unsigned int> u32s;
        25 optional map<unsigned int, unsigned short> odd; 200 optional string far = "dflt"; 255 optional Point last;
    };
    interface I { All f(All a, int n, string s, vector<Point> p, map<string, Point> m, out string t, out vector<byte> raw); };
};`

// nodeType describes a type to roundtrip.js.
type nodeType struct {
	Kind string    `json:"kind"`
	Name string    `json:"name,omitempty"`
	Key  *nodeType `json:"key,omitempty"`
	Elem *nodeType `json:"elem,omitempty"`
}

type nodeMember struct {
	Tag     int32    `json:"tag"`
	Name    string   `json:"name"`
	Key     string   `json:"key"` // in TUP
	Type    nodeType `json:"type"`
	Require bool     `json:"require"`
	Def     any      `json:"def"`
}

func typeForNode(fd protoreflect.FieldDescriptor, out map[string][]nodeMember) nodeType {
	o := member(fd)
	value := func(t tarsv1.Type, md protoreflect.MessageDescriptor) nodeType {
		switch t {
		case tarsv1.Type_WRAPPED:
			return typeForNode(md.Fields().ByNumber(1), out)
		case tarsv1.Type_STRUCT:
			structForNode(md, out)
			return nodeType{Kind: "STRUCT", Name: string(md.FullName())}
		}
		return nodeType{Kind: t.String()}
	}
	switch {
	case fd.IsMap():
		key, elem := value(o.GetKey(), nil), value(o.GetType(), fd.MapValue().Message())
		return nodeType{Kind: "MAP", Key: &key, Elem: &elem}
	case fd.IsList() && o.GetKey() != 0:
		key, elem := typeForNode(fd.Message().Fields().ByNumber(1), out), typeForNode(fd.Message().Fields().ByNumber(2), out)
		return nodeType{Kind: "MAP", Key: &key, Elem: &elem}
	case fd.IsList():
		elem := value(o.GetType(), fd.Message())
		return nodeType{Kind: "LIST", Elem: &elem}
	}
	return value(o.GetType(), fd.Message())
}

func structForNode(md protoreflect.MessageDescriptor, out map[string][]nodeMember) {
	name := string(md.FullName())
	if _, ok := out[name]; ok {
		return
	}
	out[name] = nil
	var members []nodeMember
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		o := member(fd)
		m := nodeMember{Tag: o.GetTag(), Name: fd.JSONName(), Key: fd.JSONName(), Type: typeForNode(fd, out), Require: o.GetRequire()}
		if o.GetTag() == 0 && proto.GetExtension(md.Options(), tarsv1.E_Struct).(*tarsv1.Struct).GetKind() == tarsv1.Struct_RESPONSE {
			m.Key = ""
		}
		if fd.HasOptionalKeyword() {
			m.Def = refDefault(fd, o).Interface()
		}
		members = append(members, m)
	}
	out[name] = members
}

// stream runs roundtrip.js on lines.
func stream(t *testing.T, lines []byte) []string {
	t.Helper()
	node := realserver.Need(t, "node", "nodejs")
	npm := realserver.Need(t, "npm", "npm")
	dir, err := filepath.Abs("../../bin/tarsjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "roundtrip.js"} {
		raw, err := os.ReadFile(filepath.Join("../../testdata/tarsjs", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	done := filepath.Join(dir, "installed.json")
	if before, err := os.ReadFile(done); err != nil || !bytes.Equal(before, lock) {
		ci := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		ci.Dir = dir
		if out, err := ci.CombinedOutput(); err != nil {
			if os.Getenv("CAUSEWAY_REAL") == "1" {
				t.Fatalf("needs the packages of testdata/tarsjs: %v\n%s", err, out)
			}
			t.Skipf("skipped: needs the packages of testdata/tarsjs (npm ci), which are not installed")
		}
		if err := os.WriteFile(done, lock, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), node, "roundtrip.js")
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(lines)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("roundtrip.js: %v\n%s", err, errs.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestNode: what is written here, the TARS SDK for Node.js reads; what it writes then is read here as the same message. Both
// for bare members and for TUP.
func TestNode(t *testing.T) {
	if testing.Short() {
		t.Skip("runs other programs: not with -short")
	}
	s := compile(t, forNode)
	f := function(t, s, "/Js.I/f")
	type job struct {
		m    *tarswire.Message
		tup  int
		wire []byte
		want *dynamicpb.Message
	}
	var jobs []job
	var lines bytes.Buffer
	for _, m := range []*tarswire.Message{f.In, f.Out, table(t, s, "Js.All")} {
		structs := map[string][]nodeMember{}
		structForNode(m.Schema.Desc, structs)
		for i := range 60 {
			d := dynamicpb.NewMessage(m.Schema.Desc)
			(&filler{rand: rand.New(rand.NewSource(int64(i))), safe: true}).message(d, []float64{0.9, 0.5, 0}[i%3], 4)
			wire, err := proto.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, tup := range []int{0, 2, 3} {
				if tup != 0 && m.Schema.Name == "Js.All" {
					continue
				}
				write := tarswire.AppendTARS
				switch tup {
				case 2:
					write = tarswire.AppendTUP2
				case 3:
					write = tarswire.AppendTUP
				}
				tars, err := write(nil, wire, m, &tarswire.Options{Zeros: true})
				if err != nil {
					t.Fatal(err)
				}
				line, err := json.Marshal(map[string]any{"structs": structs, "root": m.Schema.Name, "members": hex.EncodeToString(tars), "tup": tup})
				if err != nil {
					t.Fatal(err)
				}
				lines.Write(append(line, '\n'))
				jobs = append(jobs, job{m, tup, tars, d})
			}
		}
	}
	answers := stream(t, lines.Bytes())
	if len(answers) != len(jobs) {
		t.Fatalf("%d answers to %d lines", len(answers), len(jobs))
	}
	bad := 0
	for i, j := range jobs {
		raw, err := hex.DecodeString(answers[i])
		if err != nil {
			t.Errorf("%s (TUP %d): Node.js says of %x: %s", j.m.Schema.Name, j.tup, j.wire, answers[i])
			bad++
		} else {
			read := tarswire.AppendWire
			if j.tup != 0 {
				read = tarswire.AppendTUPWire
			}
			// Defaults are filled in on both sides; so the first is read here as well.
			for _, tars := range [][]byte{j.wire, raw} {
				wire, err := read(nil, tars, j.m, nil)
				if err != nil {
					t.Fatalf("%s (TUP %d) %x: %v", j.m.Schema.Name, j.tup, tars, err)
				}
				got := dynamicpb.NewMessage(j.m.Schema.Desc)
				if err := proto.Unmarshal(wire, got); err != nil {
					t.Fatal(err)
				}
				if &tars[0] == &j.wire[0] {
					j.want = got
				} else if diff := cmp.Diff(settled(j.want), settled(got), protocmp.Transform()); diff != "" {
					t.Errorf("%s (TUP %d) by Node.js (-want +got):\n%s", j.m.Schema.Name, j.tup, diff)
					bad++
				}
			}
		}
		if bad > 5 {
			t.FailNow()
		}
	}
	t.Logf("%d messages went through @tars/stream and came back the same", len(jobs))
}

// settled is a message whose optional structs are all there: the codec for Node.js writes those that were not with their
// defaults.
func settled(m *dynamicpb.Message) *dynamicpb.Message {
	out := proto.CloneOf(m)
	var settle func(m protoreflect.Message)
	settle = func(m protoreflect.Message) {
		fds := m.Descriptor().Fields()
		for i := range fds.Len() {
			fd := fds.Get(i)
			switch {
			case fd.IsList() && fd.Message() != nil:
				for j := range m.Get(fd).List().Len() {
					settle(m.Get(fd).List().Get(j).Message())
				}
			case fd.IsMap() && fd.MapValue().Message() != nil:
				m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					settle(v.Message())
					return true
				})
			case fd.Message() != nil && !fd.IsList() && !fd.IsMap():
				if !m.Has(fd) && member(fd).GetType() == tarsv1.Type_STRUCT {
					m.Set(fd, m.NewField(fd))
					fds := fd.Message().Fields()
					for j := range fds.Len() {
						if f := fds.Get(j); f.HasOptionalKeyword() {
							m.Mutable(fd).Message().Set(f, refDefault(f, member(f)))
						}
					}
				}
				if m.Has(fd) {
					settle(m.Mutable(fd).Message())
				}
			}
		}
	}
	settle(out)
	return out
}
