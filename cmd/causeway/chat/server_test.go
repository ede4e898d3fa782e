package chat

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
)

func start(t *testing.T) (*Server, chatv1.ChatClient) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	s, g := New(WithClock(func() time.Time { return time.Unix(1, 0) })), grpc.NewServer()
	s.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(ln) // ends with Stop
	}()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Close()
		g.GracefulStop() // which ends although streams are open
		<-done
	})
	return s, chatv1.NewChatClient(conn)
}

func texts[T any](t *testing.T, recv func() (*T, error), text func(*T) string) (out []string, code codes.Code) {
	t.Helper()
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return out, codes.OK
		}
		if err != nil {
			return out, status.Code(err)
		}
		out = append(out, text(m))
	}
}

func textOf(m *chatv1.Message) string { return m.GetText() }

func TestListenAndTalk(t *testing.T) {
	_, c := start(t)
	heard, err := c.Listen(t.Context(), &chatv1.ListenRequest{Room: "lobby", Latest: 1, Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := heard.Recv(); err != nil || m.GetText() != "that depends" {
		t.Fatalf("found %v %v", m, err)
	}
	talk, err := c.Talk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := talk.Send(&chatv1.Message{Room: "lobby", Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	if err := talk.CloseSend(); err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "two"}
	if got, code := texts(t, talk.Recv, textOf); cmp.Diff(want, got) != "" || code != codes.OK {
		t.Errorf("who talks: found %q %s", got, code)
	}
	if got, code := texts(t, heard.Recv, textOf); cmp.Diff(want, got) != "" || code != codes.OK {
		t.Errorf("who listens: found %q %s", got, code)
	}
}

func TestRefusals(t *testing.T) {
	_, c := start(t)
	for name, m := range map[string][]*chatv1.Message{
		"no room": {{Text: "a"}}, "no text": {{Room: "r"}}, "another room": {{Room: "r", Text: "a"}, {Room: "q", Text: "b"}},
	} {
		talk, err := c.Talk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range m {
			if err := talk.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, code := texts(t, talk.Recv, textOf); code != codes.InvalidArgument {
			t.Errorf("%s: found %s", name, code)
		}
	}
}

func TestFiles(t *testing.T) {
	_, c := start(t)
	up, err := c.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*chatv1.UploadRequest{
		{Room: "r", Filename: "small", Content: &httpbody.HttpBody{ContentType: "a/b", Data: []byte("one ")}},
		{Room: "r", Content: &httpbody.HttpBody{Data: []byte("two")}},
		{Room: "r", Filename: "large", Content: &httpbody.HttpBody{ContentType: "c/d", Data: make([]byte, 1<<20)}},
		{Room: "r", Content: &httpbody.HttpBody{Data: []byte("x")}},
	} {
		if err := up.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := up.CloseAndRecv()
	if err != nil || sum.GetMessages() != 4 || sum.GetBytes() != 7+1<<20+1 || cmp.Diff([]string{"small", "large"}, sum.GetFiles()) != "" {
		t.Errorf("found %v %v", sum, err)
	}
	for name, want := range map[string]codes.Code{"small": codes.OK, "large": codes.FailedPrecondition, "none": codes.NotFound} {
		down, err := c.Download(t.Context(), &chatv1.DownloadRequest{Room: "r", Name: name})
		if err != nil {
			t.Fatal(err)
		}
		got, code := texts(t, down.Recv, func(b *httpbody.HttpBody) string { return b.GetContentType() + ":" + string(b.GetData()) })
		if code != want || name == "small" && cmp.Diff([]string{"a/b:one two"}, got) != "" {
			t.Errorf("%s: found %q %s", name, got, code)
		}
	}
}

// What is kept is bounded, and who listens slowly is told what is still there.
func TestRoomsAreBounded(t *testing.T) {
	s, c := start(t)
	for range maxSaid + 10 {
		if err := s.say(&chatv1.Message{Room: "r", Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if said, next, _, err := s.since("r", 0); len(said) != maxSaid || next != maxSaid+10 || err != nil {
		t.Errorf("found %d up to %d, %v", len(said), next, err)
	}
	for i := range maxRooms {
		err := s.say(&chatv1.Message{Room: "room" + string(rune('a'+i)), Text: "x"})
		if want := i < maxRooms-2; (err == nil) != want {
			t.Fatalf("room %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, err := c.Listen(ctx, &chatv1.ListenRequest{Room: "r", Latest: 5})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := heard.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if _, err := heard.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("found %v", err)
	}
}
