package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// bound is what the edge would find for a call of m by its own rule, or by POST of its name.
func bound(t testing.TB, e *adaptertest.Engine, m *schema.Method, vars ...string) *rpcadapters.Matched {
	t.Helper()
	out := e.Matched(m)
	bindings := []*httprule.Binding{httprule.Default(m)}
	if rule := httprule.Rule(m); rule != nil {
		var err error
		if bindings, err = httprule.Compile(m, rule); err != nil {
			t.Fatal(err)
		}
	}
	return byRule(t, out, bindings[0], vars...)
}

func byRule(t testing.TB, out *rpcadapters.Matched, b *httprule.Binding, vars ...string) *rpcadapters.Matched {
	t.Helper()
	var err error
	if out.Rule, err = rpcadapters.NewRule(b, &out.Options.REST); err != nil {
		t.Fatal(err)
	}
	out.Vars = vars
	return out
}

// chatSchema is the schema of demo.chat.v1.
func chatSchema(t testing.TB) *schema.Schema {
	t.Helper()
	files := new(protoregistry.Files)
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return
		}
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	add(chatv1.File_demo_chat_v1_chat_proto)
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type handler func(ctx context.Context, c *rpc.Call) error

func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

var errBroken = errors.New("broken pipe")

// What is written, flushed and told for each kind of method, with an engine that may break.
func TestStreamsOverAnEngine(t *testing.T) {
	s := adaptertest.Schema(t)
	const fail = `{"code":5,"message":"gone","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ASKED","domain":"test"}]}`
	type want struct {
		status, flushes int
		body            string
		ended, aborted  bool
		code            string
	}
	for _, tc := range []struct {
		name, method, accept, body string
		setup                      func(*adaptertest.Engine, *rpcadapters.Options)
		want                       want
	}{
		// Of five answers those that another follows at once are not flushed alone.
		{"server stream", adaptertest.Server, "", `{"text":"a","number":"5"}`, nil, want{200, 3, strings.Repeat(`,`+"\n"+`{"text":"a","number":"5"}`, 5), true, false, "OK"}},
		{"client stream", adaptertest.Client, "text/event-stream", `[{"text":"a"},{"text":"b"}]`, nil, want{200, 0, `{"text":"a b","number":"2"}`, true, false, "OK"}},
		{"both ways", adaptertest.Bidi, "application/x-ndjson", `{"text":"a"} {"text":"b"}`, nil, want{200, 3, `{"text":"a"}` + "\n" + `{"text":"b"}` + "\n", true, false, "OK"}},
		{"both ways, none", adaptertest.Bidi, "application/json", ``, nil, want{200, 1, `[]`, true, false, "OK"}},
		{"both ways, fails", adaptertest.Bidi, "", `{"text":"a"} {"text":"fail 5 gone"}`, nil, want{200, 2, `[{"text":"a"},` + "\n" + `{"@error":` + fail + `}`, true, false, "NotFound"}},
		{"grpc-gateway's", adaptertest.Bidi, "", `{"text":"a"}{"text":"fail 5 gone"}`, gatewayOption, want{200, 1, `{"result":{"text":"a"}}` + "\n" + `{"error":` + fail + `}` + "\n", true, false, "NotFound"}},
		{"grpc-gateway's, at once", adaptertest.Bidi, "", `{"text":"fail 5 gone"}`, gatewayOption, want{404, 0, `{"error":` + fail + `}` + "\n", true, false, "NotFound"}},
		{"a body that breaks off", adaptertest.Client, "", `[{"text":"a"},{"te`, func(e *adaptertest.Engine, _ *rpcadapters.Options) { e.Cut = io.ErrUnexpectedEOF }, want{400, 0, `{"code":3,"message":"the request body is cut or malformed",`, true, false, "InvalidArgument"}},
		{"a caller who does not take the second answer", adaptertest.Server, "application/x-ndjson", `{"text":"a","number":"5"}`, func(e *adaptertest.Engine, _ *rpcadapters.Options) { e.Break, e.Room = errBroken, 30 }, want{200, 1, `{"text":"a","number":"5"}` + "\n", false, false, "Canceled"}},
		{"who does not take the head", adaptertest.Bidi, "", `{"text":"a"}`, func(e *adaptertest.Engine, _ *rpcadapters.Options) { e.Late = errBroken }, want{200, 1, "", false, false, "Canceled"}},
	} {
		for _, piece := range []int{0, 1} {
			var e adaptertest.Engine
			e.Reset("POST", tc.method, "HTTP/1.1", rpc.Metadata{{Key: "accept", Value: tc.accept}}, []byte(tc.body))
			e.Piece = piece
			m := bound(t, &e, adaptertest.Method(t, s, tc.method))
			if tc.setup != nil {
				tc.setup(&e, m.Options)
			}
			newFace(t).Serve(t.Context(), &e.X, m, adaptertest.Echo{})
			body := e.Out.String()
			if tc.name == "server stream" {
				body = ",\n" + strings.TrimSuffix(strings.TrimPrefix(body, "["), "]")
			}
			if tc.want.status == 400 {
				body = body[:min(len(body), len(tc.want.body))]
			}
			got := want{e.Status, e.Flushes, body, e.Ended, e.Aborted, e.Sent.Code.String()}
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); d != "" {
				t.Errorf("%s: %s", tc.name, d)
			}
			if e.Done != 1 || m.Options.Budget.Used() != 0 {
				t.Errorf("%s: told %d times, %d bytes held", tc.name, e.Done, m.Options.Budget.Used())
			}
		}
	}
}

func gatewayOption(_ *adaptertest.Engine, o *rpcadapters.Options) { o.REST.GRPCGateway = true }

// A caller of server-sent events hears a sign of life while nothing is said, and none behind the end.
func TestSignsOfLife(t *testing.T) {
	f := newFace(t)
	var e adaptertest.Engine
	e.Reset("POST", adaptertest.Server, "HTTP/1.1", rpc.Metadata{{Key: "accept", Value: "text/event-stream"}}, nil)
	var held *stream
	f.Serve(t.Context(), &e.X, bound(t, &e, adaptertest.Method(t, adaptertest.Schema(t), adaptertest.Server)), handler(func(_ context.Context, c *rpc.Call) error {
		if err := c.Stream.Start(); err != nil {
			return err
		}
		s, _ := c.Stream.(*stream)
		held = s
		said := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return strings.Count(e.Out.String(), ": keep-alive\n\n")
		}
		f.quiet.look(time.Now().Add(lifeSign / 2))
		if said() != 0 {
			t.Error("want nothing said so early")
		}
		f.quiet.look(time.Now().Add(lifeSign))
		for deadline := time.Now().Add(20 * time.Second); said() == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if said() != 1 {
			t.Errorf("want a sign of life, found %d", said())
		}
		return nil
	}))
	before := e.Out.Len()
	held.last = time.Time{}
	f.quiet.look(time.Now().Add(time.Hour))
	held.live()
	if e.Out.Len() != before || !strings.HasSuffix(e.Out.String(), "event: end\ndata: {\"code\":0}\n\n") || len(f.quiet.all) != 0 {
		t.Errorf("want nothing behind the end, found %q", e.Out.String())
	}
}

// The bytes of requests that come bit by bit are held from the budget, and given back as they go.
func TestRequestListsTakeTheBudget(t *testing.T) {
	var e adaptertest.Engine
	large := `{"text":"` + strings.Repeat("x", 300<<10) + `"}`
	e.Reset("POST", adaptertest.Client, "HTTP/1.1", nil, []byte(large+strings.Repeat(`{"text":"y"}`, 20_000)))
	e.Piece = 1000
	m := bound(t, &e, adaptertest.Method(t, adaptertest.Schema(t), adaptertest.Client))
	most, least := int64(0), int64(1<<60)
	newFace(t).Serve(t.Context(), &e.X, m, handler(func(_ context.Context, c *rpc.Call) error {
		for {
			var r rpc.Message
			if err := c.Stream.Recv(&r); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			r.Free()
			used := m.Options.Budget.Used()
			most, least = max(most, used), min(least, used)
		}
	}))
	if most < 300<<10 || most > 1<<20 || least > keptRoom || m.Options.Budget.Used() != 0 {
		t.Errorf("held %d at most and %d at least, %d at the end", most, least, m.Options.Budget.Used())
	}
	m.Options.Budget.SetLimit(100 << 10)
	e.Reset("POST", adaptertest.Client, "HTTP/1.1", nil, []byte(large))
	newFace(t).Serve(t.Context(), &e.X, m, adaptertest.Echo{})
	if e.Status != 503 || !strings.Contains(e.Out.String(), "TRANSLATION_BUDGET") || m.Options.Budget.Used() != 0 {
		t.Errorf("found %d %s", e.Status, e.Out.String())
	}
}

// uploads runs a form through the face and returns the files that reached the service: name, type and content.
func uploads(t testing.TB, f *Face, m *rpcadapters.Matched, e *adaptertest.Engine) (files [][3]string, err error) {
	t.Helper()
	f.Serve(t.Context(), &e.X, m, handler(func(_ context.Context, c *rpc.Call) error {
		for {
			var r rpc.Message
			if err = c.Stream.Recv(&r); errors.Is(err, io.EOF) {
				err = nil
				return c.Stream.Send(&rpc.Message{}, false)
			} else if err != nil {
				return err
			}
			var u chatv1.UploadRequest
			perr := proto.Unmarshal(r.Data, &u)
			r.Free()
			if perr != nil {
				t.Fatal(perr)
			}
			if u.GetContent().GetContentType() != "" {
				files = append(files, [3]string{u.GetFilename(), u.GetContent().GetContentType()})
			}
			if len(u.GetContent().GetData()) > chunk {
				t.Fatalf("a piece of %d bytes", len(u.GetContent().GetData()))
			}
			files[len(files)-1][2] += string(u.GetContent().GetData())
		}
	}))
	return files, err
}

// What mime/multipart makes of a form whole, the service gets piece by piece; what it refuses, is refused.
func FuzzUpload(f *testing.F) {
	const head = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n"
	for _, s := range []string{
		"", "--b--\r\n", head + "\r\nhello\r\n--b--\r\n", head + "Content-Type: a/b\r\n\r\n\r\n--b--", "preamble\r\n" + head + "\r\n1\r\n" + head + "\r\n2\r\n--b--\r\nepilogue",
		"--b\r\nContent-Disposition: form-data; name=\"filename\"\r\n\r\nmine\r\n" + head + "\r\n1\r\n--b--\r\n", head + "\r\ncut", head, "--b\r\n\r\n\r\n--b--\r\n",
		head + "Content-Type: \r\n\r\n1\r\n--b--\r\n", strings.ReplaceAll(head+"\r\n1\r\n--b--\r\n", "\r\n", "\n"),
	} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
	}
	s := chatSchema(f)
	face := newFace(f)
	f.Fuzz(func(t *testing.T, body []byte, piece uint8) {
		var e adaptertest.Engine
		e.Reset("POST", "/", "HTTP/1.1", rpc.Metadata{{Key: "content-type", Value: "multipart/form-data; boundary=b"}}, body)
		e.Piece = int(piece)
		m := bound(t, &e, adaptertest.Method(t, s, "/demo.chat.v1.Chat/Upload"), "r")
		got, err := uploads(t, face, m, &e)
		if m.Options.Budget.Used() != 0 || e.Done != 1 {
			t.Errorf("told %d times, %d bytes held", e.Done, m.Options.Budget.Used())
		}
		var want []string
		var werr error
		for r := multipart.NewReader(bytes.NewReader(body), "b"); werr == nil; {
			var p *multipart.Part
			if p, werr = r.NextRawPart(); werr != nil {
				break
			}
			raw, rerr := io.ReadAll(p)
			if werr = rerr; p.FileName() != "" {
				want = append(want, string(raw))
			}
		}
		if err != nil {
			return // also for what a form may not say
		}
		if werr != io.EOF { //nolint:errorlint // wrapped it says that the form is cut
			t.Fatalf("taken, where mime/multipart says %v", werr)
		}
		var contents []string
		for _, file := range got {
			contents = append(contents, file[2])
		}
		if d := cmp.Diff(want, contents); d != "" {
			t.Error(d)
		}
	})
}

// A message of a stream costs no allocation, in any form.
func TestMessagesCostNoAllocation(t *testing.T) {
	if adaptertest.Race {
		t.Skip("the race detector allocates")
	}
	s := adaptertest.Schema(t)
	f := newFace(t)
	for _, accept := range []string{"application/json", "application/x-ndjson", "text/event-stream"} {
		var e adaptertest.Engine
		e.Out.Grow(1 << 20)
		m := bound(t, &e, adaptertest.Method(t, s, adaptertest.Bidi))
		run := func(n int) float64 {
			body := []byte(strings.Repeat(`{"text":"a request of some length","number":"12345"}`, n))
			h := handler(func(_ context.Context, c *rpc.Call) error {
				var r rpc.Message
				for {
					if err := c.Stream.Recv(&r); errors.Is(err, io.EOF) {
						return nil
					} else if err != nil {
						return err
					}
					err := c.Stream.Send(&r, false)
					r.Free()
					if err != nil {
						return err
					}
				}
			})
			return testing.AllocsPerRun(20, func() {
				e.Reset("POST", adaptertest.Bidi, "HTTP/1.1", rpc.Metadata{{Key: "accept", Value: accept}}, body)
				f.Serve(t.Context(), &e.X, m, h)
			})
		}
		if each := (run(1100) - run(100)) / 1000; each > 0.05 {
			t.Errorf("%s: %.2f allocations for each message", accept, each)
		}
	}
}
