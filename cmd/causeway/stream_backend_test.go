package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// chatBackend is a chat service that does what the room's name asks for, step by step: "3" sends three messages, "head" the
// head, "fail7" ends with that code, "wait" lasts until the caller has gone, "flood" sends for ever, "gate" waits for goOn, "pause" is a moment.
// Steps are parted by dots.
type chatBackend struct {
	chatv1.UnimplementedChatServer
	address string
	server  *grpc.Server

	calls     atomic.Int64 // begun
	open      atomic.Int64 // in progress
	cancelled atomic.Int64 // ended by the caller
	left      atomic.Int64 // when the last of them was, as UnixNano
	sent      atomic.Int64 // messages sent
	got       atomic.Int64 // messages received

	gate chan struct{} // what goOn sends on
}

// goOn has a call go on that waits at the gate, or comes there next.
func (b *chatBackend) goOn() {
	select {
	case b.gate <- struct{}{}:
	default: // it may already
	}
}

func startChat(t testing.TB, opts ...grpc.ServerOption) *chatBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	b := &chatBackend{address: ln.Addr().String(), gate: make(chan struct{}, 1)}
	count := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		b.calls.Add(1)
		b.open.Add(1)
		defer b.open.Add(-1)
		err := h(srv, ss)
		if ss.Context().Err() != nil || status.Code(err) == codes.Canceled {
			b.left.Store(time.Now().UnixNano())
			b.cancelled.Add(1)
		}
		return err
	}
	b.server = grpc.NewServer(append(opts, grpc.StreamInterceptor(count))...)
	chatv1.RegisterChatServer(b.server, b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.server.Serve(ln) // ends with Stop
	}()
	t.Cleanup(func() {
		b.server.Stop()
		<-done
	})
	return b
}

// steps does what a room's name asks for; send sends message n.
func (b *chatBackend) steps(ss grpc.ServerStream, room string, send func(n int) error) error {
	n := 0
	ss.SetTrailer(metadata.Pairs("x-cost", "3"))
	for step := range strings.SplitSeq(room, ".") {
		if count, err := strconv.Atoi(step); err == nil {
			for range count {
				if err := send(n); err != nil {
					return err
				}
				b.sent.Add(1)
				n++
			}
			continue
		}
		switch {
		case step == "head":
			if err := ss.SendHeader(metadata.Pairs("x-head", "yes")); err != nil {
				return err
			}
		case step == "pause":
			time.Sleep(100 * time.Millisecond) // most often what was sent has gone by then
		case step == "wait":
			<-ss.Context().Done()
			return ss.Context().Err()
		case step == "gate":
			select {
			case <-b.gate:
			case <-ss.Context().Done():
				return ss.Context().Err()
			}
		case step == "flood":
			for {
				if err := send(n); err != nil {
					return err
				}
				b.sent.Add(1)
				n++
			}
		case strings.HasPrefix(step, "fail"):
			code, err := strconv.Atoi(step[len("fail"):])
			if err != nil {
				return err
			}
			return status.Error(codes.Code(code), "asked to") //nolint:gosec // one of few
		}
	}
	return nil
}

func said(room string, n int) *chatv1.Message {
	return &chatv1.Message{Room: room, Text: "message " + strconv.Itoa(n)}
}

// Listen sends messages.
func (b *chatBackend) Listen(r *chatv1.ListenRequest, ss grpc.ServerStreamingServer[chatv1.Message]) error {
	text := strings.Repeat("x", int(r.GetLatest()))
	return b.steps(ss, r.GetRoom(), func(n int) error {
		m := said(r.GetRoom(), n)
		if text != "" {
			m.Text = text
		}
		return ss.Send(m)
	})
}

// Import counts messages; one that says "fail 7" is answered with that.
func (b *chatBackend) Import(ss grpc.ClientStreamingServer[chatv1.Message, chatv1.Summary]) error {
	sum, room := &chatv1.Summary{}, ""
	for {
		m, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b.got.Add(1)
		if err := asked(m.GetText()); err != nil {
			return err
		}
		room = m.GetRoom()
		sum.Messages++
		sum.Bytes += int64(len(m.GetText()))
	}
	if err := b.steps(ss, room, func(int) error { return nil }); err != nil {
		return err
	}
	return ss.SendAndClose(sum)
}

func asked(text string) error {
	if code, ok := strings.CutPrefix(text, "fail "); ok {
		n, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		return status.Error(codes.Code(n), "asked to") //nolint:gosec // one of few
	}
	return nil
}

// Talk sends back what is said, and then does what the room asks for.
func (b *chatBackend) Talk(ss grpc.BidiStreamingServer[chatv1.Message, chatv1.Message]) error {
	room := ""
	for {
		m, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b.got.Add(1)
		if err := asked(m.GetText()); err != nil {
			return err
		}
		room = m.GetRoom()
		if m.GetText() == "do" {
			break
		}
		if err := ss.Send(m); err != nil {
			return err
		}
		b.sent.Add(1)
	}
	return b.steps(ss, room, func(n int) error { return ss.Send(said(room, n)) })
}

// Upload says what it got: of each file its name, content type, size and hash.
func (b *chatBackend) Upload(ss grpc.ClientStreamingServer[chatv1.UploadRequest, chatv1.Summary]) error {
	sum, hash, size, name, first := &chatv1.Summary{}, sha256.New(), int64(0), "", true
	flush := func() {
		if !first {
			sum.Files = append(sum.Files, name+" "+strconv.FormatInt(size, 10)+" "+hex.EncodeToString(hash.Sum(nil))[:8])
		}
		hash.Reset()
		size, first = 0, false
	}
	for {
		m, err := ss.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b.got.Add(1)
		c := m.GetContent()
		if c.GetContentType() != "" || sum.GetMessages() == 0 {
			flush()
			name = m.GetRoom() + "/" + m.GetFilename() + " " + c.GetContentType()
			if color := m.GetLabels()["color"]; color != "" {
				name += " color=" + color
			}
		}
		if len(c.GetData()) > 64<<10 {
			return status.Error(codes.OutOfRange, "a piece of more than 64 KiB")
		}
		sum.Messages++
		sum.Bytes += int64(len(c.GetData()))
		size += int64(len(c.GetData()))
		_, _ = hash.Write(c.GetData()) // never fails
	}
	flush()
	return ss.SendAndClose(sum)
}

// Download sends pieces of a file.
func (b *chatBackend) Download(r *chatv1.DownloadRequest, ss grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	return b.steps(ss, r.GetRoom(), func(n int) error {
		body := &httpbody.HttpBody{Data: []byte("piece " + strconv.Itoa(n) + "\n")}
		if n == 0 {
			body.ContentType = "text/plain"
		}
		return ss.Send(body)
	})
}

// chatConfig is a gateway before the chat at an address.
func chatConfig(t testing.TB, dir, address string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "chat.binpb"), descriptors.Encode(t, chatv1.File_demo_chat_v1_chat_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	return `listen:
  - address: 127.0.0.1:0
admin:
  address: 127.0.0.1:0
schemas:
  - name: chat
    descriptor_set: ` + filepath.Join(dir, "chat.binpb") + `
services:
  - name: chat
    schema: chat
    endpoints:
      - address: ` + address + `
plugins:
  - name: access_log
    config: {output: DIR/access.log}
  - name: metrics
`
}

// startChatGateway is a gateway before the chat, with more at the end of its configuration.
func startChatGateway(t testing.TB, b *chatBackend, more string) *gatewayTest {
	t.Helper()
	return startGateway(t, chatConfig(t, t.TempDir(), b.address)+more)
}

// logged waits until the access log has a line with every one of these.
func (g *gatewayTest) logged(what string, parts ...string) {
	g.t.Helper()
	waitFor(g.t, "the access log to have "+what, func() bool {
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(raw)) {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(line, p)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// ended waits until no call is in progress at the service.
func (b *chatBackend) ended(t testing.TB) {
	t.Helper()
	waitFor(t, "the service's calls to end", func() bool { return b.open.Load() == 0 })
}
