package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// output is a log output that keeps what it is given.
type output struct {
	bytes.Buffer
	closed int
}

func (o *output) Close() error { o.closed++; return nil }

// nothing is a log output that keeps nothing.
type nothing struct{ io.Writer }

func (nothing) Close() error { return nil }

var start = time.Date(2026, 11, 22, 5, 46, 25, 7_000, time.FixedZone("east", 3600))

func getOrder(t testing.TB) *schema.Method {
	t.Helper()
	sv := ordersv1.File_demo_orders_v1_orders_proto.Services().Get(0)
	return &schema.Method{Name: "/" + string(sv.FullName()) + "/GetOrder", Desc: sv.Methods().ByName("GetOrder")}
}

// okCall is a call that went well, with every field set.
func okCall(t testing.TB) (*rpc.Call, rpc.Sent) {
	t.Helper()
	c := &rpc.Call{
		Method: getOrder(t), Protocol: "rest", Route: "orders", Service: "orders-backend", Consumer: &rpc.Consumer{Name: "shop"}, ID: "01J8",
		Peer: netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711"),
		HTTP: &rpc.HTTP{
			Method: "GET", Scheme: "https", Host: "api.example.com", Path: "/v1/orders/7", Query: "token=secret",
			Header: rpc.Metadata{{Key: "user-agent", Value: "curl/8.0"}},
		},
		Times:    rpc.Times{Start: start, Body: start.Add(150 * time.Microsecond), Upstream: 1200 * time.Microsecond},
		Node:     "10.0.0.1:9000",
		Attempts: 1,
		Trace:    rpc.Trace{ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Span: [8]byte{0xab}},
	}
	return c, rpc.Sent{
		Status: 200, Code: codes.OK, BytesIn: 199, BytesOut: 331, End: start.Add(2*time.Millisecond + 5*time.Microsecond),
	}
}

func layoutOf(t testing.TB, conf *accesslogv1.AccessLog) *layout {
	t.Helper()
	l, err := newLayout(conf)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLine(t *testing.T) {
	ok, okSent := okCall(t)
	for _, tt := range []struct {
		name string
		call *rpc.Call
		sent rpc.Sent
		want string
	}{
		{"all fields", ok, okSent, `{"time":"2026-11-22T04:46:25.002012Z","request_id":"01J8","trace_id":"0102030405060708090a0b0c0d0e0f10",` +
			`"peer":"192.0.2.7","path":"/v1/orders/7","method":"GET","host":"api.example.com","protocol":"rest","status":200,"code":"OK","route":"orders",` +
			`"service":"orders-backend","rpc_method":"demo.orders.v1.Orders/GetOrder","node":"10.0.0.1:9000","consumer":"shop",` +
			`"user_agent":"curl/8.0","bytes_in":199,"bytes_out":331,"duration_ms":2.005,"upstream_ms":1.200,"body_ms":0.150,"attempts":1}`},
		{
			"refused: no route",
			&rpc.Call{
				ID: "x", Protocol: "rest", Peer: netip.MustParseAddrPort("[fe80::1%eth0]:1"), Times: rpc.Times{Start: start},
				HTTP: &rpc.HTTP{Method: "POST", Path: "/nowhere"},
			},
			rpc.Sent{
				Status: 404, Code: codes.NotFound, Reason: "ROUTE_NOT_FOUND", End: start.Add(time.Second),
				Err: rpc.Refuse(codes.NotFound, "ROUTE_NOT_FOUND", "no route").WithCause(errors.New("host \x1b[31m\nunknown")),
			},
			`{"time":"2026-11-22T04:46:26.000007Z","request_id":"x","peer":"fe80::1","path":"/nowhere","method":"POST",` +
				`"protocol":"rest","status":404,"code":"NOT_FOUND","bytes_in":0,"bytes_out":0,"duration_ms":1000.000,"attempts":0,` +
				`"reason":"ROUTE_NOT_FOUND","error":"NotFound: no route (host \u001b[31m\nunknown)"}`,
		},
		{
			"not by HTTP",
			&rpc.Call{Protocol: "tars", Header: rpc.Metadata{{Key: "user-agent", Value: "sdk"}}, Times: rpc.Times{Start: start}},
			rpc.Sent{Code: codes.Unavailable, End: start.Add(-time.Hour)}, // a clock that went back
			`{"time":"2026-11-22T03:46:25.000007Z","protocol":"tars","code":"UNAVAILABLE","user_agent":"sdk","bytes_in":0,` +
				`"bytes_out":0,"duration_ms":0.000,"attempts":0}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, w := layoutOf(t, &accesslogv1.AccessLog{}), &writer{}
			for _, w := range []*writer{nil, w, w} { // the third finds what repeats
				got := string(l.appendLine(nil, tt.call, &tt.sent, w))
				if diff := cmp.Diff(tt.want+"\n", got); diff != "" {
					t.Errorf("line (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestEscape(t *testing.T) {
	long := strings.Repeat("x", maxField)
	for _, tt := range []struct{ text, want string }{
		{"plain /path?a=b", "plain /path?a=b"},
		{"q\"b\\s\n\r\t", `q\"b\\s\n\r\t`},
		{"\x00\x1f\x1b[2J\x7f", `\u0000\u001f\u001b[2J\u007f`},
		{"grüße 世界 😀", "grüße 世界 😀"},
		{"bad\xff\xc3(\xed\xa0\x80", `bad\ufffd\ufffd(\ufffd\ufffd\ufffd`},
		{"c1\u009b31m ls\u2028ps\u2029 rtl\u202e bom\ufeff", `c1\u009b31m ls\u2028ps\u2029 rtl\u202e bom\ufeff`},
		{long, long},
		{long + "x", long[:maxField-3] + "…"},
		{long[:maxField-1] + "é", long[:maxField-3] + "…"},
		{long[:maxField-2] + "é", long[:maxField-2] + "é"},
		{long[:maxField-4] + "\x00" + "x", long[:maxField-4] + "…"},
		{strings.Repeat("é", 2000), strings.Repeat("é", (maxField-3)/2) + "…"},
		{strings.Repeat("\x00", 1<<20), strings.Repeat(`\u0000`, (maxField-3)/6) + "…"},
	} {
		if got := string(appendEscaped(nil, tt.text)); got != tt.want {
			t.Errorf("escape %.60q\n got %q\nwant %q", tt.text, got, tt.want)
		}
	}
}

func TestPlugin(t *testing.T) {
	var opened []string
	out := &output{}
	env := plugin.Env{Open: func(output string, _ telemetry.Rotation) (io.WriteCloser, error) {
		opened = append(opened, output)
		if output == "/no/such" {
			return nil, errors.New("there is no folder")
		}
		return out, nil
	}}
	p, err := Kind.New(&accesslogv1.AccessLog{}, env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Kind.New(&accesslogv1.AccessLog{Output: "/no/such"}, env); err == nil || err.Error() != "output: there is no folder" {
		t.Errorf("error %v", err)
	}
	if _, err := Kind.New(&accesslogv1.AccessLog{Output: "stderr"}, env); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"stdout", "/no/such", "stderr"}, opened); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}
	if _, err := Kind.New(&ordersv1.Order{}, env); err == nil ||
		err.Error() != "want a configuration of type *accesslogv1.AccessLog, found *ordersv1.Order" {
		t.Errorf("error %v", err)
	}
	c, sent := okCall(t)
	done := p.(rpc.Finisher)
	done.Done(c, sent)
	done.Done(c, sent)
	if line := layoutOf(t, &accesslogv1.AccessLog{}).appendLine(nil, c, &sent, nil); !bytes.Equal(out.Bytes(), append(line, line...)) {
		t.Errorf("written\n%s", out.String())
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("the query is in the log")
	}
	if err := p.(io.Closer).Close(); err != nil || out.closed != 1 {
		t.Errorf("closed %d times, %v", out.closed, err)
	}
}

// FuzzLine: whatever stands in a call, its line is one line, parses, and gives every field back (longer ones cut).
func FuzzLine(f *testing.F) {
	f.Add("id", "example.com", "/path", "agent", "oops", int64(1), 200)
	f.Add("", "", "", "", "", int64(-1), 0)
	f.Add("\"},{\"", "\r\nGET / HTTP/1.1", "/\xff\xfe", "\x1b[31m\u009b", "\u202e\u2028", int64(1<<62), -5)
	f.Add(strings.Repeat("\x00", 400), strings.Repeat("é", 1500), strings.Repeat("a", 2049), strings.Repeat("😀", 600),
		strings.Repeat("\xff", 342), int64(1e15), 599)
	plainLayout, w := layoutOf(f, &accesslogv1.AccessLog{}), &writer{}
	f.Fuzz(func(t *testing.T, id, host, path, agent, fault string, n int64, status int) {
		c := &rpc.Call{
			ID: id, Protocol: "rest", Route: id + host, Service: path + id, Consumer: &rpc.Consumer{Name: agent + host}, Node: fault,
			Method: &schema.Method{Name: "/" + path},
			HTTP:   &rpc.HTTP{Method: agent, Host: host, Path: path, Header: rpc.Metadata{{Key: "user-agent", Value: agent}}},
			Times:  rpc.Times{Start: start, Upstream: time.Duration(n)}, Attempts: status,
		}
		sent := rpc.Sent{
			Status: status, Code: codes.Code(uint32(n)), Reason: fault, Err: errors.New(fault), BytesIn: n, BytesOut: -n,
			End: start.Add(time.Duration(n)),
		}
		line := plainLayout.appendLine(nil, c, &sent, w)
		if again := plainLayout.appendLine(nil, c, &sent, nil); !bytes.Equal(line, again) {
			t.Fatalf("with what repeats %q, without %q", line, again)
		}
		if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' || !utf8.Valid(line) {
			t.Fatalf("not one line of UTF-8: %q", line)
		}
		for _, r := range string(line[:len(line)-1]) {
			if acts(r) {
				t.Fatalf("%U stands raw in %q", r, line)
			}
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.UseNumber()
		got := map[string]any{}
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
			t.Errorf("time: %v", err)
		}
		for key, text := range map[string]string{
			"request_id": id, "method": agent, "host": host, "path": path, "route": id + host, "service": path + id,
			"rpc_method": path, "node": fault, "consumer": agent + host, "user_agent": agent, "reason": fault, "error": fault,
		} {
			checkText(t, key, got[key], text)
		}
		for key, number := range map[string]int64{"bytes_in": n, "bytes_out": -n, "attempts": int64(status)} {
			if v, err := got[key].(json.Number).Int64(); err != nil || v != number {
				t.Errorf("%s is %v, want %d", key, got[key], number)
			}
		}
		took := max(time.Duration(n).Microseconds(), 0)
		if got, want := got["duration_ms"].(json.Number).String(), fmt.Sprintf("%d.%03d", took/1000, took%1000); got != want {
			t.Errorf("duration_ms is %s, want %s", got, want)
		}
	})
}

// checkText compares a parsed field with what went in.
func checkText(t *testing.T, key string, got any, text string) {
	t.Helper()
	want := string([]rune(text)) // one U+FFFD for each byte that is not UTF-8
	if want == "" {
		if got != nil {
			t.Errorf("%s is %q, want none", key, got)
		}
		return
	}
	s, ok := got.(string)
	if !ok {
		t.Errorf("%s is %v, want %q", key, got, want)
		return
	}
	if s == want {
		return
	}
	begin, isCut := strings.CutSuffix(s, cut)
	if !isCut || !strings.HasPrefix(want, begin) || len(appendEscaped(nil, text)) > maxField || len(want)*6 <= maxField {
		t.Errorf("%s is %q, want %q", key, s, want)
	}
}

func TestDoneAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := &accessLog{out: nothing{io.Discard}, layout: layoutOf(t, &accesslogv1.AccessLog{}), sampled: math.MaxUint64}
	c, sent := okCall(t)
	if n := testing.AllocsPerRun(1000, func() { p.Done(c, sent) }); n != 0 {
		t.Errorf("%v allocations per line, want 0", n)
	}
}

func BenchmarkDone(b *testing.B) {
	p := &accessLog{out: nothing{io.Discard}, layout: layoutOf(b, &accesslogv1.AccessLog{}), sampled: math.MaxUint64}
	c, sent := okCall(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Done(c, sent)
	}
}
