package tarswire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// forNodeJSON has what the codec for Node.js can write in JSON: no vector<byte>, no keys that are structs.
const forNodeJSON = `
module Js
{
    enum E { A, B = 300, C = -1 };
    struct Point { 0 require int x; 1 optional string label = "p"; };
    struct Plain
    {
        0 require bool b; 1 require byte i8; 2 require short i16; 3 require int i32; 4 require long i64;
        5 require unsigned byte u8; 6 require unsigned short u16; 7 require unsigned int u32;
        8 require float f; 9 require double d; 10 require string s; 11 optional E e = B;
        13 optional vector<unsigned byte> ubytes; 14 optional vector<string> strings;
        15 optional vector<Point> points; 16 optional map<string, int> counts; 17 optional map<int, Point> byId;
        19 optional vector<vector<vector<int> > > deep; 20 optional map<string, map<int, double> > nested;
        21 optional vector<map<string, string> > rows; 22 optional vector<bool> flags; 23 optional vector<float> floats;
        200 optional string far = "dflt"; 255 require Point last;
    };
};`

// TestNodeJSON: what is written here in JSON is what the TARS SDK for Node.js writes of the same bytes, and that SDK reads it as
// the same.
func TestNodeJSON(t *testing.T) {
	if testing.Short() {
		t.Skip("runs other programs: not with -short")
	}
	m := table(t, compile(t, forNodeJSON), "Js.Plain")
	structs := map[string][]nodeMember{}
	structForNode(m.Schema.Desc, structs)
	var lines bytes.Buffer
	ask := func(more map[string]any) {
		more["structs"], more["root"] = structs, m.Schema.Name
		line, err := json.Marshal(more)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	type job struct {
		tars []byte
		text string
	}
	var jobs []job
	for i := range 90 {
		d := dynamicpb.NewMessage(m.Schema.Desc)
		(&filler{rand: rand.New(rand.NewSource(int64(i))), safe: true}).message(d, []float64{0.9, 0.5, 0}[i%3], 4)
		wire, err := proto.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		o := &tarswire.Options{Zeros: true}
		tars, err := tarswire.AppendTARS(nil, wire, m, o)
		if err != nil {
			t.Fatal(err)
		}
		if wire, err = tarswire.AppendWire(nil, tars, m, o); err != nil {
			t.Fatal(err)
		}
		text, err := tarswire.AppendJSON(nil, wire, m, o)
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job{tars, string(text)})
		ask(map[string]any{"members": hex.EncodeToString(tars), "json": true})
		ask(map[string]any{"text": string(text)})
	}
	answers := stream(t, lines.Bytes())
	if len(answers) != 2*len(jobs) {
		t.Fatalf("%d answers to %d lines", len(answers), 2*len(jobs))
	}
	for i, j := range jobs {
		if why := differ("", anyOf(t, j.text), anyOf(t, answers[2*i])); why != "" {
			t.Fatalf("%x: %s\nhere:    %s\nNode.js: %s", j.tars, why, j.text, answers[2*i])
		}
		raw, err := hex.DecodeString(answers[2*i+1])
		if err != nil {
			t.Fatalf("Node.js says of %s: %s", j.text, answers[2*i+1])
		}
		var both [2]*dynamicpb.Message
		for k, tars := range [][]byte{j.tars, raw} {
			wire, err := tarswire.AppendWire(nil, tars, m, nil)
			if err != nil {
				t.Fatalf("%x: %v", tars, err)
			}
			both[k] = dynamicpb.NewMessage(m.Schema.Desc)
			if err := proto.Unmarshal(wire, both[k]); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(settled(both[0]), settled(both[1]), protocmp.Transform()); diff != "" {
			t.Fatalf("%s read by Node.js (-want +got):\n%s", j.text, diff)
		}
	}
	t.Logf("%d messages are the same JSON here and with @tars/stream", len(jobs))
}

func anyOf(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// differ says where two texts differ; numbers are the same where JavaScript has no others: a float is written as a double there,
// and a long as the next one.
func differ(at string, a, b any) string {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return fmt.Sprintf("%s: %v and %v", at, a, b)
		}
		for k := range a {
			if why := differ(at+"."+k, a[k], b[k]); why != "" {
				return why
			}
		}
		return ""
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return fmt.Sprintf("%s: %v and %v", at, a, b)
		}
		for i := range a {
			if why := differ(fmt.Sprintf("%s[%d]", at, i), a[i], b[i]); why != "" {
				return why
			}
		}
		return ""
	case json.Number:
		n, ok := b.(json.Number)
		x, err1 := strconv.ParseFloat(string(a), 64)
		y, err2 := strconv.ParseFloat(string(n), 64)
		of32 := slices.Contains([]string{".f", ".floats"}, strings.TrimRight(at, "[]0123456789"))
		if ok && err1 == nil && err2 == nil && (x == y || of32 && float32(x) == float32(y)) {
			return ""
		}
	default:
		if a == b {
			return ""
		}
	}
	return fmt.Sprintf("%s: %v and %v", at, a, b)
}
