package accesslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// richCall is okCall with headers, claims and an answer's metadata.
func richCall(t testing.TB) (*rpc.Call, rpc.Sent) {
	c, sent := okCall(t)
	c.HTTP.Header = rpc.Metadata{
		{Key: "user-agent", Value: "curl/8.0"},
		{Key: "authorization", Value: "Bearer hush"},
		{Key: "x-tenant", Value: "acme \"x\""},
		{Key: "cookie", Value: "hush"},
		{Key: "x-app-a", Value: "1"},
		{Key: "x-app-a", Value: "2"},
		{Key: "x-app-token", Value: "hush"},
		{Key: "x-raw-bin", Value: "\x00\xff"},
	}
	c.Reply.Header = rpc.Metadata{{Key: "x-cache", Value: "hit"}, {Key: "set-cookie", Value: "hush"}}
	c.Claims = rpc.Claims{
		"sub": "7", "admin": true, "exp": 1.7e9, "share": 0.5, "scope": []any{"a", "b", 3.0}, "nested": map[string]any{"role": "boss"},
		"https://example.com/tenant": "acme", "nothing": nil,
	}
	c.Consumer.GroupList = "a,b"
	return c, sent
}

func TestChosen(t *testing.T) {
	for _, tt := range []struct {
		name string
		conf *accesslogv1.AccessLog
		want string
	}{
		{
			"fields in their order", &accesslogv1.AccessLog{Fields: []string{"status", "path", "code", "route", "span_id", "groups", "client", "scheme"}},
			`{"status":200,"path":"/v1/orders/7","code":"OK","route":"orders","span_id":"ab00000000000000","groups":"a,b","client":"192.0.2.7","scheme":"https"}`,
		},
		{"one field", &accesslogv1.AccessLog{Fields: []string{"time"}}, `{"time":"2026-11-22T04:46:25.002012Z"}`},
		{
			"headers by name", &accesslogv1.AccessLog{Fields: []string{"code"}, RequestHeaders: []string{"X-Tenant", "x-app-*", "x-none", "x-raw-bin"}, ResponseHeaders: []string{"x-cache"}},
			`{"code":"OK","request_headers":{"x-tenant":"acme \"x\"","x-app-a":"1, 2","x-raw-bin":"AP8="},"response_headers":{"x-cache":"hit"}}`,
		},
		{
			"all headers but secret ones", &accesslogv1.AccessLog{Fields: []string{"code"}, RequestHeaders: []string{"*"}, ResponseHeaders: []string{"*"}, Deny: []string{"user-*"}},
			`{"code":"OK","request_headers":{"x-tenant":"acme \"x\"","x-app-a":"1, 2","x-raw-bin":"AP8="},"response_headers":{"x-cache":"hit"}}`,
		},
		{
			"claims", &accesslogv1.AccessLog{Fields: []string{"code"}, Claims: []string{"sub", "admin", "exp", "share", "scope", "nested.role", "nested", "nothing", "none", "https://example.com/tenant"}},
			`{"code":"OK","claims":{"sub":"7","admin":true,"exp":1700000000,"share":0.5,"scope":"a,b","nested.role":"boss","https://example.com/tenant":"acme"}}`,
		},
		{
			"logfmt", &accesslogv1.AccessLog{Format: "logfmt", Fields: []string{"time", "path", "code", "duration_ms", "peer"}, RequestHeaders: []string{"x-tenant", "x-app-a"}, Claims: []string{"sub", "https://example.com/tenant"}},
			`time=2026-11-22T04:46:25.002012Z path=/v1/orders/7 code=OK duration_ms=2.005 peer=192.0.2.7 request_headers.x-tenant="acme \"x\"" request_headers.x-app-a="1, 2" claims.sub=7 claims.https://example.com/tenant=acme`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, sent := richCall(t)
			l, w := layoutOf(t, tt.conf), &writer{}
			for _, w := range []*writer{nil, w, w} {
				got := string(l.appendLine(nil, c, &sent, w))
				if diff := cmp.Diff(tt.want+"\n", got); diff != "" {
					t.Errorf("line (-want +got):\n%s", diff)
				}
				if strings.Contains(got, "hush") {
					t.Errorf("a secret is in %s", got)
				}
			}
		})
	}
}

func TestFaults(t *testing.T) {
	env := plugintest.Env(t)
	env.Open = func(output string, _ telemetry.Rotation) (io.WriteCloser, error) {
		if output == telemetry.Collector {
			return nil, telemetry.ErrNoCollector
		}
		return nothing{io.Discard}, nil
	}
	plugintest.Faults(t, Kind, env, []plugintest.Fault{
		{Name: "format", Config: `{format: jsno}`, Path: "format", Want: `unknown format "jsno"`, Fix: "write json or logfmt"},
		{Name: "field", Config: `{fields: [default, statsu]}`, Path: "fields[1]", Want: `unknown field "statsu"`, Fix: "name any of: default, time, "},
		{Name: "field twice", Config: `{fields: [default, status]}`, Path: "fields[1]", Want: `the field "status" a second time`, Fix: "name it once"},
		{Name: "secret header", Config: `{request_headers: [x-tenant, Authorization]}`, Path: "request_headers[1]", Want: `the header "authorization" carries secrets`, Fix: "remove it"},
		{Name: "secret header of the answer", Config: `{response_headers: [Set-Cookie]}`, Path: "response_headers[0]", Want: `carries secrets`, Fix: "remove it"},
		{Name: "denied", Config: `{request_headers: [x-tenant], deny: [x-*]}`, Path: "request_headers[0]", Want: `the header "x-tenant" is in deny`, Fix: "remove it here or in deny"},
		{Name: "no header", Config: `{request_headers: ["a b"]}`, Path: "request_headers[0]", Want: `"a b" is not the name of a header`, Fix: "write a name like x-tenant"},
		{Name: "secret claim", Config: `{claims: [sub, access_token]}`, Path: "claims[1]", Want: `is a secret by its name`, Fix: "remove it"},
		{Name: "no claim", Config: `{claims: [a..b]}`, Path: "claims[0]", Want: `is not the name of a claim`, Fix: "write a name like sub"},
		{Name: "sample", Config: `{sample: 2}`, Path: "sample", Want: `want a share from 0 to 1, found 2`, Fix: "write 0.1 for one call in ten"},
		{Name: "slow", Config: `{slow: -1s}`, Path: "slow", Want: `want a duration above 0`, Fix: "write a duration: 1s"},
		{Name: "rotate stdout", Config: `{rotate: {max_bytes: 1000000}}`, Path: "rotate", Want: `want a file to rotate`, Fix: "remove it, or write the path of a file as output"},
		{Name: "rotate never", Config: `{output: /a/b, rotate: {keep: 3}}`, Path: "rotate", Want: `want a size or an age`, Fix: "add max_bytes or max_age"},
		{Name: "rotate small", Config: `{output: /a/b, rotate: {max_bytes: 1000}}`, Path: "rotate.max_bytes", Want: `want at least 65536 bytes, found 1000`, Fix: "write 104857600"},
		{Name: "rotate often", Config: `{output: /a/b, rotate: {max_age: 1s}}`, Path: "rotate.max_age", Want: `want at least 1m0s, found 1s`, Fix: "write 86400s"},
		{Name: "no collector", Config: `{output: otlp}`, Path: "output", Want: `add logs to the signals of telemetry.otlp`, Fix: "write stdout"},
	})
}

// TestSample: a share of the calls that went well is logged, and all that did not, or were slow.
func TestSample(t *testing.T) {
	out := &output{}
	env := plugin.Env{Open: func(string, telemetry.Rotation) (io.WriteCloser, error) { return out, nil }}
	share := 0.1
	p, err := Kind.New(&accesslogv1.AccessLog{Sample: &share, Slow: durationpb.New(time.Second), Fields: []string{"request_id"}}, env)
	if err != nil {
		t.Fatal(err)
	}
	c, sent := okCall(t)
	failed, slow := sent, sent
	failed.Code, slow.End = codes.NotFound, sent.End.Add(time.Second)
	const n = 5000
	for _, of := range []struct {
		id   string
		sent rpc.Sent
	}{{"well", sent}, {"failed", failed}, {"slow", slow}} {
		c.ID = of.id
		for range n {
			p.(rpc.Finisher).Done(c, of.sent)
		}
	}
	lines := out.String()
	if f, s := strings.Count(lines, `"failed"`), strings.Count(lines, `"slow"`); f != n || s != n {
		t.Errorf("%d that failed and %d that were slow, want %d each", f, s, n)
	}
	if w := strings.Count(lines, `"well"`); w < n/10*7/10 || w > n/10*13/10 {
		t.Errorf("%d of %d that went well, want about a tenth", w, n)
	}
}

// TestNoShareMeansNone: of calls that went well none is logged, of the others all.
func TestNoShareMeansNone(t *testing.T) {
	out := &output{}
	env := plugin.Env{Open: func(string, telemetry.Rotation) (io.WriteCloser, error) { return out, nil }}
	p, err := Kind.New(&accesslogv1.AccessLog{Sample: new(float64)}, env)
	if err != nil {
		t.Fatal(err)
	}
	c, sent := okCall(t)
	for range 1000 {
		p.(rpc.Finisher).Done(c, sent)
	}
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
	sent.Status = 499
	p.(rpc.Finisher).Done(c, sent)
	if lines := bytes.Count(out.Bytes(), []byte("\n")); lines != 1 {
		t.Errorf("%d lines, want 1", lines)
	}
}

// TestWhatRepeatsGivesWay: many hosts and codes one after the other, each line is the call's own.
func TestWhatRepeatsGivesWay(t *testing.T) {
	l, w := layoutOf(t, &accesslogv1.AccessLog{Fields: []string{"host", "code", "path", "status", "node"}}), &writer{}
	c, sent := okCall(t)
	for i := range 20_000 {
		c.HTTP.Host, c.Node = fmt.Sprint("h", i%700, ".example.com"), fmt.Sprint("10.0.0.", i%9, ":9000")
		sent.Code, sent.Status = codes.Code(i%17), 200+i%300
		got, want := l.appendLine(nil, c, &sent, w), l.appendLine(nil, c, &sent, nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("call %d\n got %swant %s", i, got, want)
		}
	}
	c.HTTP.Host = strings.Repeat("h", 10_000)
	for range 20 {
		l.appendLine(nil, c, &sent, w)
	}
	for _, k := range w.kept {
		if k != nil && len(k.of.host) > maxKeptText {
			t.Error("a long host is kept")
		}
	}
}

// FuzzChosen: whatever headers and claims hold, a JSON line parses and gives them back, and a line of logfmt is one line.
func FuzzChosen(f *testing.F) {
	f.Add("x-a", "value", "claim")
	f.Add("x-\"", "\r\n\x1b[31m", "\u202e")
	f.Add("x-b-bin", "\xff\x00", strings.Repeat("\x00", 1000))
	f.Add("authorization", "hush", "hush")
	js := layoutOf(f, &accesslogv1.AccessLog{Fields: []string{"code"}, RequestHeaders: []string{"*"}, Claims: []string{"sub", "list"}})
	lf := layoutOf(f, &accesslogv1.AccessLog{Format: "logfmt", RequestHeaders: []string{"*"}, Claims: []string{"sub", "list"}})
	f.Fuzz(func(t *testing.T, name, value, claim string) {
		c := &rpc.Call{HTTP: &rpc.HTTP{Path: value, Header: rpc.Metadata{{Key: name, Value: value}, {Key: name, Value: value}}}, Claims: rpc.Claims{"sub": claim, "list": []any{claim, value}}}
		sent := rpc.Sent{End: start}
		line := js.appendLine(nil, c, &sent, nil)
		got := struct {
			Headers map[string]string `json:"request_headers"`
			Claims  map[string]string
		}{}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if secret(name) && len(got.Headers) > 0 {
			t.Errorf("%q is logged", name)
		}
		if !secret(name) && len(name) < 300 && !strings.HasSuffix(name, "-bin") {
			checkText(t, name, got.Headers[string([]rune(name))], value+", "+value)
		}
		if claim != "" {
			checkText(t, "sub", got.Claims["sub"], claim)
		}
		line = lf.appendLine(nil, c, &sent, &writer{})
		if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' || !utf8.Valid(line) || line[0] == ' ' {
			t.Fatalf("not one line of UTF-8: %q", line)
		}
		for _, r := range string(line[:len(line)-1]) {
			if acts(r) {
				t.Fatalf("%U stands raw in %q", r, line)
			}
		}
	})
}

// TestAllPlain holds the look at eight bytes at a time against the table.
func TestAllPlain(t *testing.T) {
	for c := range 256 {
		for _, other := range []byte{' ', 'a', '~', 0x80} {
			for at := range 8 {
				b := bytes.Repeat([]byte{other}, 9)
				b[at] = byte(c)
				if got, want := allPlain(b), plain[c] && other != 0x80; got != want {
					t.Fatalf("%x among %x at %d is plain: %v, want %v", c, other, at, got, want)
				}
			}
		}
	}
}

func BenchmarkDoneChosen(b *testing.B) {
	p := &accessLog{out: nothing{io.Discard}, sampled: math.MaxUint64, layout: layoutOf(b, &accesslogv1.AccessLog{
		Fields: []string{"default", "client"}, RequestHeaders: []string{"x-tenant", "x-app-*"}, Claims: []string{"sub"},
	})}
	c, sent := richCall(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Done(c, sent)
	}
}
