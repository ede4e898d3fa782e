package tars_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/rpcadapters/tars"
)

// frames are the packets of the captures: those of requests (">") or of answers ("<"), by file.
func frames(t testing.TB, direction byte) map[string][][]byte {
	t.Helper()
	out := map[string][][]byte{}
	for _, sdk := range []string{"go", "node"} {
		paths, err := filepath.Glob(filepath.Join("../../testdata/tars", sdk, "*.hex"))
		if err != nil || len(paths) < 35 {
			t.Fatalf("%d captures of %s: %v", len(paths), sdk, err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				raw, err := hex.DecodeString(strings.TrimSpace(strings.TrimLeft(line, "<> ")))
				if line[0] != direction || err != nil {
					continue
				}
				for len(raw) > 4 {
					n := int(binary.BigEndian.Uint32(raw))
					name := sdk + "/" + strings.TrimSuffix(filepath.Base(p), ".hex")
					out[name] = append(out[name], raw[4:n])
					raw = raw[n:]
				}
			}
		}
	}
	return out
}

// TestCapturedRequests: each request parses and comes out as the same bytes, unless it is one that SDKs do not send.
func TestCapturedRequests(t *testing.T) {
	n := 0
	for name, packets := range frames(t, '>') {
		for _, data := range packets {
			var r tars.Request
			if err := tars.ParseRequest(&r, data); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if name != "go/probe_packet_without_context_status" {
				if again := tars.AppendRequest(nil, &r); !bytes.Equal(again, data) {
					t.Errorf("%s: %x became %x", name, data, again)
				}
			}
			if string(r.Servant) != "Kit.EchoServer.EchoObj" {
				t.Errorf("%s: servant %q", name, r.Servant)
			}
			n++
		}
	}
	if n < 80 {
		t.Errorf("%d packets, want at least 80", n)
	}
	var r tars.Request
	if err := tars.ParseRequest(&r, frames(t, '>')["go/meta"][0]); err != nil {
		t.Fatal(err)
	}
	if r.Version != tars.VersionTARS || string(r.Function) != "meta" || r.Timeout != 3000 || r.ID != 44 {
		t.Errorf("meta: %+v", r)
	}
	if got := pairs(r.Context); !slices.Equal(got, []string{"trace=t1"}) {
		t.Errorf("context of meta: %q", got)
	}
	if got := pairs(r.Status); !slices.Equal(got, []string{"st=s1"}) {
		t.Errorf("status of meta: %q", got)
	}
	if err := tars.ParseRequest(&r, frames(t, '>')["go/oneway"][0]); err != nil || r.PacketType != tars.OneWay {
		t.Errorf("oneway: %+v %v", r, err)
	}
}

func pairs(e tars.Entries) []string {
	var out []string
	for it := e.Read(); it.Next(); {
		out = append(out, string(it.Key)+"="+string(it.Value))
	}
	return out
}

// TestCapturedResponses: each answer parses; those of TarsGo come out as the same bytes.
func TestCapturedResponses(t *testing.T) {
	all := frames(t, '<')
	n := 0
	for name, packets := range all {
		for _, data := range packets {
			var r tars.Response
			if err := tars.ParseResponse(&r, data); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			n++
			if strings.HasPrefix(name, "go/") {
				if again := tars.AppendResponse(nil, &r); !bytes.Equal(again, data) {
					t.Errorf("%s: %x became %x", name, data, again)
				}
			}
		}
	}
	if n < 75 {
		t.Errorf("%d packets, want at least 75", n)
	}
	for _, c := range []struct {
		name, desc string
		ret, id    int32
		version    int16
	}{
		{"go/fail_plain", "plain failure", 1, 40, 1},
		{"node/fail_plain", "plain failure", 1, 40, 1},
		{"go/fail_code", "no gold", 1001, 41, 1},
		{"go/nofunc", "func mismatch", 1, 50, 1},
		{"node/nofunc", "", -3, 50, 1},
		{"go/probe_version_9", "decode reqpacket fail, error version: 9", 1, 9, 9},
		{"go/tup_hello", "", 0, 4242, 3},
		{"node/tup_hello", "", 0, 4242, 3},
	} {
		var r tars.Response
		if err := tars.ParseResponse(&r, all[c.name][0]); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if r.Ret != c.ret || string(r.Desc) != c.desc || r.ID != c.id || r.Version != c.version {
			t.Errorf("%s: ret %d, %q, id %d, version %d", c.name, r.Ret, r.Desc, r.ID, r.Version)
		}
	}
	var r tars.Response
	if err := tars.ParseResponse(&r, all["go/meta"][0]); err != nil {
		t.Fatal(err)
	}
	if got := pairs(r.Context); !slices.Equal(got, []string{"resp-ctx=p-"}) {
		t.Errorf("context of meta: %q", got)
	}
}

// TestResponseTUP: the outcome of a call of version 3 travels in the status.
func TestResponseTUP(t *testing.T) {
	in := tars.Response{Version: tars.VersionTUP, ID: 7, Ret: -3, Desc: []byte("no such function"), Body: []byte{1}}
	in.Status.Add("k", "v")
	in.Context.Add("a", "b")
	data := tars.AppendResponse(nil, &in)
	var req tars.Request
	if err := tars.ParseRequest(&req, data); err != nil {
		t.Fatalf("it is not laid out as a request: %v", err)
	}
	var out tars.Response
	if err := tars.ParseResponse(&out, data); err != nil {
		t.Fatal(err)
	}
	if again := tars.AppendResponse(nil, &tars.Response{Version: tars.VersionTUP, ID: 7}); !bytes.Contains(again, []byte{0x7d, 0, 0, 2, 0x08, 0x0c}) {
		t.Errorf("want a map without entries where there are no results, found %x", again)
	}
	if out.Ret != -3 || string(out.Desc) != "no such function" || out.ID != 7 || !bytes.Equal(out.Body, in.Body) {
		t.Errorf("%+v", out)
	}
	want := []string{"k=v", "STATUS_RESULT_CODE=-3", "STATUS_RESULT_DESC=no such function"}
	if diff := cmp.Diff(want, pairs(out.Status)); diff != "" {
		t.Error(diff)
	}
}

// TestRefused: what is no packet is refused with the reason.
func TestRefused(t *testing.T) {
	good := frames(t, '>')["go/add"][0]
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "request packet: lacks tag 1"},
		{"cut", good[:len(good)-9], "request packet: tag 7: wanted a length within the data, found a larger one"},
		{"twice", append(slices.Clone(good), 0x1c), "request packet: tag 1 is given twice"},
		{"no id", []byte{0x1c, 0x2c, 0x3c, 0x56, 0, 0x66, 0, 0x7d, 0, 0x0c, 0x8c}, "request packet: lacks tag 4"},
		{"id too wide", []byte{0x43, 0, 0, 0, 0, 0, 0, 0, 1}, "request packet: tag 4: wanted an integer of type INT or narrower, found LONG"},
		{"servant is a number", []byte{0x5c}, "request packet: tag 5: wanted a string or bytes, found ZERO"},
		{"servant is bytes", []byte{0x5d, 0, 0x0c}, "request packet: tag 5: wanted a string, found SIMPLE_LIST"},
		{"body is a string", []byte{0x76, 0}, "request packet: tag 7: wanted SIMPLE_LIST or LIST, found STRING1"},
		{"body longer than the data", []byte{0x7d, 0, 0x02, 0x7f, 0xff, 0xff, 0xff}, "request packet: tag 7: wanted a length within the data, found a larger one"},
		{"list longer than the data", []byte{0x79, 0x02, 0x7f, 0xff, 0xff, 0xff}, "request packet: tag 7: wanted a number of elements that the data can hold, found another"},
		{"context longer than the data", []byte{0x98, 0x02, 0x7f, 0xff, 0xff, 0xff}, "request packet: tag 9: wanted a number of elements that the data can hold, found another"},
		{"context of numbers", []byte{0x98, 0x00, 1, 0x0c, 0x1c}, "request packet: tag 9: wanted a string with tag 0 in a map, found ZERO with tag 0"},
		{"context without order", []byte{0x98, 0x00, 1, 0x16, 0, 0x06, 0}, "request packet: tag 9: wanted a string with tag 0 in a map, found STRING1 with tag 1"},
		{"end of no struct", []byte{0x0b}, "request packet: wanted a member, found STRUCT_END"},
		{"no type", []byte{0x0e}, "request packet: tag 0: wanted a value, found the end of the data or a type that does not exist"},
		{"deep", append([]byte{0x0a}, bytes.Repeat([]byte{0x0a}, 1000)...), "request packet: tag 0: wanted a value of type STRUCT_BEGIN, found bytes that are not"},
	} {
		var r tars.Request
		err := tars.ParseRequest(&r, c.data)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// TestReadsAnyForm: any order, unknown members, a body as LIST.
func TestReadsAnyForm(t *testing.T) {
	data := []byte{
		0x8c, 0x79, 0x00, 2, 0x00, 0xff, 0x0c, // timeout, body
		0xfa, 200, 0x09, 0x00, 1, 0x0a, 0x0b, 0x0b, // an unknown struct that holds a list of structs
		0x66, 1, 'f', 0x56, 0, 0x4c, 0x3c, 0x2c, 0x10, 1,
	}
	var r tars.Request
	if err := tars.ParseRequest(&r, data); err != nil {
		t.Fatal(err)
	}
	if r.Version != 1 || string(r.Function) != "f" || !bytes.Equal(r.Body, []byte{0xff, 0}) || r.Context.Len() != 0 {
		t.Errorf("%+v", r)
	}
}

// TestAllocs: packets are read and written without allocations.
func TestAllocs(t *testing.T) {
	if tars.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	request, response := frames(t, '>')["go/meta"][0], frames(t, '<')["go/meta"][0]
	buf := make([]byte, 0, 1024)
	var req tars.Request
	var resp tars.Response
	if n := testing.AllocsPerRun(100, func() {
		if tars.ParseRequest(&req, request) != nil || tars.ParseResponse(&resp, response) != nil {
			t.Error("a capture does not parse")
		}
		for it := req.Context.Read(); it.Next(); {
			if len(it.Key) == 0 {
				t.Error("an empty key")
			}
		}
		buf = tars.AppendRequest(buf[:0], &req)
		buf = tars.AppendResponse(buf[:0], &resp)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzRequest: what parses is the same after it was written and parsed again.
func FuzzRequest(f *testing.F) {
	for _, packets := range frames(f, '>') {
		for _, data := range packets {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b tars.Request
		if tars.ParseRequest(&a, data) != nil {
			return
		}
		out := tars.AppendRequest(nil, &a)
		if err := tars.ParseRequest(&b, out); err != nil {
			t.Fatalf("%x was written as %x: %v", data, out, err)
		}
		if diff := cmp.Diff(view(a), view(b)); diff != "" {
			t.Errorf("%x was written as %x (-read +read again):\n%s", data, out, diff)
		}
	})
}

// view is a request in comparable form.
func view(r tars.Request) map[string]any {
	return map[string]any{
		"numbers": []int64{int64(r.Version), int64(r.PacketType), int64(r.MessageType), int64(r.ID), int64(r.Timeout)},
		"texts":   []string{string(r.Servant), string(r.Function), string(r.Body)},
		"context": pairs(r.Context), "status": pairs(r.Status),
	}
}

// FuzzResponse is FuzzRequest for answers. What comes first is in the form that is written, so the second writing must give
// the same bytes.
func FuzzResponse(f *testing.F) {
	for _, packets := range frames(f, '<') {
		for _, data := range packets {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b tars.Response
		if tars.ParseResponse(&a, data) != nil {
			return
		}
		if a.Version == tars.VersionTUP || a.Version == tars.VersionTUP2 {
			a.Status = tars.Entries{} // else the outcome would be there twice
			if len(a.Body) == 0 {
				a.Body = []byte{0x08, 0x0c} // what is written for no results
			}
		}
		out := tars.AppendResponse(nil, &a)
		if err := tars.ParseResponse(&b, out); err != nil {
			t.Fatalf("%x was written as %x: %v", data, out, err)
		}
		if a.Ret != b.Ret || a.ID != b.ID || a.Version != b.Version || a.PacketType != b.PacketType || a.MessageType != b.MessageType ||
			!bytes.Equal(a.Body, b.Body) || !bytes.Equal(a.Desc, b.Desc) || !bytes.Equal(a.Servant, b.Servant) || !bytes.Equal(a.Function, b.Function) || !slices.Equal(pairs(a.Context), pairs(b.Context)) {
			t.Errorf("%x was written as %x: %+v became %+v", data, out, a, b)
		}
		if b.Version != tars.VersionTUP && b.Version != tars.VersionTUP2 {
			if again := tars.AppendResponse(nil, &b); !bytes.Equal(out, again) {
				t.Errorf("%x became %x", out, again)
			}
		}
	})
}
