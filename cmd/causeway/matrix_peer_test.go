package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// trpcPeer is a client of tRPC that has nothing of the adapter's.
type trpcPeer struct {
	t  *testing.T
	nc net.Conn
	id uint32
}

func (p *trpcPeer) send(frames ...*trpckit.Frame) {
	p.t.Helper()
	for _, f := range frames {
		if _, err := p.nc.Write(f.Bytes()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// next is the next frame that is no FEEDBACK.
func (p *trpcPeer) next() *trpckit.Frame {
	p.t.Helper()
	for {
		f, err := trpckit.Read(p.nc, false)
		if err != nil {
			p.t.Fatal(err)
		}
		if f.Kind != trpckit.Feedback {
			return f
		}
	}
}

func (p *trpcPeer) body(m *adaptertest.Message) []byte {
	p.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *trpcPeer) unary(method string, m *adaptertest.Message, change func(f *trpckit.Frame)) *trpckit.Frame {
	p.t.Helper()
	p.id++
	f := trpckit.Request(p.id, method, p.body(m))
	if change != nil {
		change(f)
	}
	p.send(f)
	return p.next()
}

// stream sends messages on a stream, and gives the texts of the answers and the end.
func (p *trpcPeer) stream(method string, requests ...*adaptertest.Message) (texts []string, end *trpckit.Frame) {
	p.t.Helper()
	p.id++
	id := p.id + 1000
	p.send(trpckit.Open(id, method, 1<<20))
	if f := p.next(); f.Kind != trpckit.Init || f.Int("response_meta.ret") != 0 {
		return nil, f
	}
	for _, m := range requests {
		p.send(trpckit.Message(id, p.body(m)))
	}
	p.send(trpckit.End(id, 0, 0, ""))
	for {
		f := p.next()
		if f.Kind != trpckit.Data {
			return texts, f
		}
		var m adaptertest.Message
		if err := proto.Unmarshal(f.Body, &m); err != nil {
			p.t.Fatal(err)
		}
		texts = append(texts, m.GetText())
	}
}

// TestMatrixPeer has a client that is not the product's own make the calls of the matrix over tRPC, to services of every protocol.
func TestMatrixPeer(t *testing.T) {
	t.Parallel()
	for _, out := range []string{"gRPC", "TARS", "tRPC"} {
		t.Run(out, func(t *testing.T) {
			t.Parallel()
			g := startKindsGateway(t, out)
			p := &trpcPeer{t: t, nc: dialKit(t, g.gateway.Addresses()[2])}
			defer func() { // at the end, for whether the backend has heard of it by then is open
				f := p.unary(adaptertest.Unary, &adaptertest.Message{Text: "wait"}, func(f *trpckit.Frame) { f.Set("timeout", uint32(50)) })
				if f.Int("ret") != 21 {
					t.Errorf("deadline: %v", f.Header)
				}
				g.backend.letGo()
			}()

			f := p.unary(adaptertest.Unary, &adaptertest.Message{Text: "grün", Number: 3}, func(f *trpckit.Frame) {
				f.Set("timeout", uint32(20_000)).Set("trans_info", map[string]string{"x-tenant": "acme", "X-Raw-Bin": "\x00\xfe", "x-consumer-name": "root", "trpc-user-ip": "forged"})
			})
			if string(f.Body) != string(p.body(&adaptertest.Message{Text: "grün", Number: 3})) || f.Int("ret") != 0 || f.Info("trans_info")["x-answer"] != "yes" || f.Info("trans_info")["x-answer-bin"] != "\x00\xff" {
				t.Errorf("unary: %v %q", f.Header, f.Body)
			}
			c := g.reached(t)
			if c.header.Get("x-tenant") != "acme" || c.header.Get("x-raw-bin") != "\x00\xfe" || c.header.Has("x-consumer-name") || c.header.Has("trpc-user-ip") || c.left <= 0 || c.left > 20*time.Second {
				t.Errorf("the backend was told %q, %s", c.header, c.left)
			}
			if f = p.unary(adaptertest.Unary, &adaptertest.Message{Text: "fail"}, nil); f.Int("func_ret") == 0 || f.Int("ret") != 0 || f.Text("error_msg") != failText {
				t.Errorf("error: %v", f.Header)
			}
			g.reached(t)
			large := strings.Repeat("x", 1<<20)
			if f = p.unary(adaptertest.Unary, &adaptertest.Message{Text: large}, nil); f.Int("ret") != 0 || len(f.Body) < len(large) {
				t.Errorf("large: %v, %d bytes", f.Header, len(f.Body))
			}
			g.reached(t)
			p.send(trpckit.Request(999, adaptertest.Unary, p.body(&adaptertest.Message{Text: "told"})).Set("call_type", uint32(1)))
			g.reached(t)
			if f = p.unary("/test.v1.Kinds/Nothing", &adaptertest.Message{}, nil); f.ID == 999 || f.Int("ret") != 12 {
				t.Errorf("what follows a call without an answer: %v", f.Header)
			}

			one := &adaptertest.Message{Text: "a", Number: 2}
			if out == "TARS" { // which has no streams: the configuration names none
				if _, f := p.stream(adaptertest.Bidi, one); f.Int("response_meta.ret") != 12 {
					t.Errorf("a stream: %v", f.Header)
				}
				return
			}
			for method, want := range map[string]string{adaptertest.Server: "a a", adaptertest.Client: "a b", adaptertest.Bidi: "a b"} {
				requests := []*adaptertest.Message{one, {Text: "b"}}
				if method == adaptertest.Server {
					requests = requests[:1]
				}
				texts, end := p.stream(method, requests...)
				if strings.Join(texts, " ") != want || end.Kind != trpckit.Close || end.Int("close_type") != 0 {
					t.Errorf("%s: %q, %v", method, texts, end.Header)
				}
				g.reached(t)
			}
			if _, end := p.stream(adaptertest.Bidi, &adaptertest.Message{Text: "fail"}); end.Int("close_type") != 1 || end.Text("msg") != failText {
				t.Errorf("error on a stream: %v", end.Header)
			}
		})
	}
}
