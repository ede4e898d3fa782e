package trpc

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// step is one line of a capture: what the client wrote, or what the server answered.
type step struct {
	client bool
	text   string // "EOF" or "timeout"; "" where there are bytes
	raw    []byte
}

// captures are the captured calls by name.
func captures(t testing.TB) map[string][]step {
	t.Helper()
	paths, err := filepath.Glob("../../testdata/trpc/*.hex")
	if err != nil || len(paths) < 26 {
		t.Fatalf("%d captures: %v", len(paths), err)
	}
	out := map[string][]step{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(p), ".hex")
		for line := range strings.Lines(string(text)) {
			direction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if direction != ">" && direction != "<" {
				continue
			}
			s := step{client: direction == ">"}
			if s.raw, err = hex.DecodeString(rest); err != nil {
				s.raw, s.text = nil, rest
			}
			out[name] = append(out[name], s)
		}
	}
	return out
}

// frames cuts bytes into frames; broken ends it.
func frames(t testing.TB, raw []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(raw) > 0 {
		var h head
		if len(raw) < headLen {
			t.Fatalf("%d bytes behind the last frame", len(raw))
		}
		if err := h.parse(raw, defaultMaxFrame); err != nil {
			t.Fatal(err)
		}
		out = append(out, raw[:h.size:h.size])
		raw = raw[h.size:]
	}
	return out
}

// rebuild parses a frame and makes it anew.
func rebuild(t testing.TB, frame []byte, client bool) []byte {
	t.Helper()
	var h head
	if err := h.parse(frame, defaultMaxFrame); err != nil {
		t.Fatal(err)
	}
	out := h.append(nil)
	if !bytes.Equal(out, frame[:headLen]) {
		t.Errorf("head %x became %x", frame[:headLen], out)
	}
	rest := frame[headLen:]
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case h.frame == frameUnary && client:
		var r request
		fatal(r.parse(rest[:h.header]))
		body, attached, err := parts(frame, &h, r.attachment)
		fatal(err)
		out = r.append(out)
		at := len(out)
		out = append(append(out, body...), attached...)
		patch(out, 0, at)
	case h.frame == frameUnary:
		var r response
		fatal(r.parse(rest[:h.header]))
		body, attached, err := parts(frame, &h, r.attachment)
		fatal(err)
		out = r.append(out)
		at := len(out)
		out = append(append(out, body...), attached...)
		patch(out, 0, at)
	case h.stream == streamInit:
		var m initMeta
		fatal(m.parse(rest))
		out = m.append(out)
	case h.stream == streamFeedback:
		n, err := parseFeedback(rest)
		fatal(err)
		out = appendFeedback(out, n)
	case h.stream == streamClose:
		var m closeMeta
		fatal(m.parse(rest))
		out = m.append(out)
	default:
		out = append(out, rest...)
	}
	return out
}

// TestCaptures: each captured frame, and each hand-made one that is whole, comes out as the same bytes.
func TestCaptures(t *testing.T) {
	n := 0
	for name, steps := range captures(t) {
		t.Run(name, func(t *testing.T) {
			for _, s := range steps {
				if s.raw == nil || name == "probe_bad_magic" {
					continue
				}
				for _, frame := range frames(t, s.raw) {
					if again := rebuild(t, frame, s.client); !bytes.Equal(again, frame) {
						// A hand-made header has its fields in an order of its own: it says the same then.
						if strings.HasPrefix(name, "probe_") && bytes.Equal(rebuild(t, again, s.client), again) && len(again) == len(frame) {
							n++
							continue
						}
						t.Errorf("%x\nbecame\n%x", frame, again)
					}
					n++
				}
			}
		})
	}
	if n < 90 {
		t.Errorf("%d frames, want at least 90", n)
	}
}

// TestCapturedMeaning: what is read of some of them is what the client of the SDK was told.
func TestCapturedMeaning(t *testing.T) {
	all := captures(t)
	req := func(name string) (r request, body, attached []byte) {
		t.Helper()
		frame := all[name][0].raw
		var h head
		if err := h.parse(frame, defaultMaxFrame); err != nil {
			t.Fatal(err)
		}
		if err := r.parse(frame[headLen : headLen+h.header]); err != nil {
			t.Fatal(err)
		}
		body, attached, err := parts(frame, &h, r.attachment)
		if err != nil {
			t.Fatal(err)
		}
		return r, body, attached
	}
	r, _, _ := req("meta")
	if string(r.caller) != "trpc.kit.client.Caller" || string(r.callee) != "trpc.kit.echo.Echo" || string(r.fn) != "/trpc.kit.echo.Echo/Meta" || r.timeout != 2999 || r.id != 22 {
		t.Errorf("meta: %+v", r)
	}
	if v, ok := r.info.get("app-key"); !ok || string(v) != "v1" {
		t.Errorf("trans_info of meta: %q %v", v, ok)
	}
	if r, _, _ = req("oneway"); r.callType != callOneWay {
		t.Errorf("oneway: call type %d", r.callType)
	}
	_, body, attached := req("attachment")
	if string(attached) != "attached bytes" || string(body) != "\n\x04with" {
		t.Errorf("attachment %q behind %q", attached, body)
	}
	if r, body, _ = req("echo_gzip"); r.encoding != encodingGzip {
		t.Errorf("echo_gzip: encoding %d", r.encoding)
	}
	out, _, err := appendUnpacked(nil, body, r.encoding, 1<<10, nil)
	if want := "\n\xc8\x01" + strings.Repeat("z", 200); err != nil || string(out) != want {
		t.Errorf("echo_gzip: %q %v", out, err)
	}

	type outcome struct {
		Ret, FuncRet int32
		Message      string
		Info         []string
	}
	for name, want := range map[string]outcome{
		"fail_business":  {FuncRet: 10001, Message: "no gold"},
		"fail_framework": {Ret: 22, Message: "too busy"},
		"fail_plain":     {FuncRet: 999, Message: "plain"},
		"meta":           {Info: []string{"app-key=v1", "app-resp=pong"}},
	} {
		var h head
		var r response
		frame := all[name][1].raw
		if err := h.parse(frame, defaultMaxFrame); err != nil {
			t.Fatal(err)
		}
		if err := r.parse(frame[headLen : headLen+h.header]); err != nil {
			t.Fatal(err)
		}
		got := outcome{Ret: r.ret, FuncRet: r.funcRet, Message: string(r.message)}
		for e := r.info.entries(); e.next(); {
			got.Info = append(got.Info, string(e.key)+"="+string(e.value))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	var m initMeta
	if err := m.parse(all["stream_bidi"][0].raw[headLen:]); err != nil {
		t.Fatal(err)
	}
	if !m.hasRequest || m.hasResponse || string(m.fn) != "/trpc.kit.echo.Stream/Chat" || m.window != 65535 {
		t.Errorf("INIT of stream_bidi: %+v", m)
	}
	var c closeMeta
	fail := all["stream_server_fail"]
	if err := c.parse(fail[len(fail)-1].raw[headLen:]); err != nil {
		t.Fatal(err)
	}
	if c.reset != closeReset || c.ret != 10001 || string(c.message) != "stream business failure" {
		t.Errorf("CLOSE of stream_server_fail: %+v", c)
	}
}
