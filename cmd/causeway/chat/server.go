// Package chat is the streaming backend of the demo: rooms behind the gRPC service demo.chat.v1.Chat, kept in memory.
package chat

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
)

// What is kept at most: a demo is left running.
const (
	maxRooms = 100
	maxSaid  = 1_000   // messages in a room; older ones are forgotten
	maxFiles = 16      // in a room
	maxFile  = 1 << 20 // bytes; of larger files only the size is known
)

// Server is the chat. It starts with two messages in the room "lobby" and forgets everything when it is dropped. Its methods
// may be called from any number of goroutines.
type Server struct {
	chatv1.UnimplementedChatServer

	now     func() time.Time
	closing chan struct{}
	once    sync.Once // closes closing

	mu    sync.Mutex
	rooms map[string]*room
}

// room is what was said in one room. Messages are counted from its beginning, so that who hears slowly knows where they are.
type room struct {
	said    []*chatv1.Message // read-only once they are here
	first   int               // the number of said[0]
	changed chan struct{}     // closed when more is said
	files   []*file
}

type file struct {
	name, typ string
	size      int64
	data      []byte // nil of a large one
}

// Option changes a Server as it is made.
type Option func(*Server)

// WithClock makes the server take the time of messages from now, which must be safe for concurrent use.
func WithClock(now func() time.Time) Option {
	return func(s *Server) { s.now = now }
}

// New returns a server.
func New(options ...Option) *Server {
	s := &Server{now: time.Now, closing: make(chan struct{}), rooms: map[string]*room{}}
	for _, o := range options {
		o(s)
	}
	lobby := &room{changed: make(chan struct{})}
	s.rooms["lobby"] = lobby
	lobby.said = []*chatv1.Message{
		{Room: "lobby", Author: "grace", Text: "is anybody here?", Said: timestamppb.New(time.Date(2026, 1, 5, 8, 30, 0, 0, time.UTC))},
		{Room: "lobby", Author: "alan", Text: "that depends", Said: timestamppb.New(time.Date(2026, 1, 5, 8, 31, 0, 0, time.UTC))},
	}
	return s
}

// Register adds the service to g.
func (s *Server) Register(g *grpc.Server) { chatv1.RegisterChatServer(g, s) }

// Close ends every stream with UNAVAILABLE, so that a graceful stop of the gRPC server ends too.
func (s *Server) Close() { s.once.Do(func() { close(s.closing) }) }

// find is the room of a name. The caller holds mu.
func (s *Server) find(name string) (*room, error) {
	if name == "" {
		return nil, status.Error(codes.InvalidArgument, "want the name of a room")
	}
	r := s.rooms[name]
	if r == nil {
		if len(s.rooms) == maxRooms {
			return nil, status.Errorf(codes.ResourceExhausted, "there are %d rooms already", maxRooms)
		}
		r = &room{changed: make(chan struct{})}
		s.rooms[name] = r
	}
	return r, nil
}

// say adds a message to its room.
func (s *Server) say(m *chatv1.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(m.GetRoom())
	if err != nil {
		return err
	}
	if m.GetText() == "" {
		return status.Error(codes.InvalidArgument, "want a text")
	}
	r.said = append(r.said, &chatv1.Message{Room: m.GetRoom(), Author: m.GetAuthor(), Text: m.GetText(), Said: timestamppb.New(s.now())})
	if over := len(r.said) - maxSaid; over > 0 {
		r.said = slices.Delete(r.said, 0, over)
		r.first += over
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// since is what was said in a room from a message on, the number of the next one, and what is closed when there is more.
func (s *Server) since(name string, from int) (said []*chatv1.Message, next int, more <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return nil, 0, nil, err
	}
	from = max(from, r.first)
	next = r.first + len(r.said)
	return slices.Clone(r.said[min(from, next)-r.first:]), next, r.changed, nil
}

// Listen sends the latest messages of a room and then each one as it is said.
func (s *Server) Listen(req *chatv1.ListenRequest, stream grpc.ServerStreamingServer[chatv1.Message]) error {
	if req.GetLatest() < 0 || req.GetLimit() < 0 {
		return status.Error(codes.InvalidArgument, "latest and limit: want 0 or more")
	}
	_, next, _, err := s.since(req.GetRoom(), 0)
	if err != nil {
		return err
	}
	next -= int(req.GetLatest())
	for sent := int32(0); ; {
		said, n, more, err := s.since(req.GetRoom(), next)
		if err != nil {
			return err
		}
		next = n
		for _, m := range said {
			if err := stream.Send(m); err != nil {
				return err
			}
			if sent++; sent == req.GetLimit() {
				return nil
			}
		}
		if err := s.wait(stream.Context(), more, nil); err != nil {
			return err
		}
	}
}

// wait waits until something is closed; its error says that the stream is over.
func (s *Server) wait(ctx context.Context, more, done <-chan struct{}) error {
	select {
	case <-more:
	case <-done:
	case <-s.closing:
		return status.Error(codes.Unavailable, "the chat is closing")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Import says many messages.
func (s *Server) Import(stream grpc.ClientStreamingServer[chatv1.Message, chatv1.Summary]) error {
	sum := &chatv1.Summary{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(sum)
		}
		if err != nil {
			return err
		}
		if err := s.say(m); err != nil {
			return err
		}
		sum.Messages++
		sum.Bytes += int64(len(m.GetText()))
	}
}

// Talk says what the caller says, in the room of the first message, and sends what everybody says there from then on. It ends
// once the caller's last message has come back.
func (s *Server) Talk(stream grpc.BidiStreamingServer[chatv1.Message, chatv1.Message]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	_, next, _, err := s.since(first.GetRoom(), 0)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		for m := first; failed == nil; {
			if failed = s.say(m); failed == nil {
				if m, failed = stream.Recv(); failed == nil && m.GetRoom() != first.GetRoom() {
					failed = status.Errorf(codes.InvalidArgument, "want messages for the room %q", first.GetRoom())
				}
			}
		}
	}()
	for over := false; ; {
		said, n, more, err := s.since(first.GetRoom(), next)
		if err != nil {
			return err
		}
		next = n
		for _, m := range said {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		if over {
			return nil
		}
		if err := s.wait(stream.Context(), more, done); err != nil {
			return err
		}
		select {
		case <-done:
			if !errors.Is(failed, io.EOF) {
				return failed
			}
			over = true
		default:
		}
	}
}

// Upload puts files into a room; one takes the place of another of its name.
func (s *Server) Upload(stream grpc.ClientStreamingServer[chatv1.UploadRequest, chatv1.Summary]) error {
	sum := &chatv1.Summary{}
	var current *file
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(sum)
		}
		if err != nil {
			return err
		}
		c := m.GetContent()
		if current == nil || c.GetContentType() != "" {
			if m.GetFilename() == "" {
				return status.Error(codes.InvalidArgument, "want the name of the file")
			}
			current = &file{name: m.GetFilename(), typ: c.GetContentType(), data: []byte{}}
			if err := s.keep(m.GetRoom(), current); err != nil {
				return err
			}
			sum.Files = append(sum.Files, current.name)
		}
		s.mu.Lock()
		current.size += int64(len(c.GetData()))
		if current.size > maxFile {
			current.data = nil
		} else {
			current.data = append(current.data, c.GetData()...)
		}
		s.mu.Unlock()
		sum.Messages++
		sum.Bytes += int64(len(c.GetData()))
	}
}

func (s *Server) keep(name string, f *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(name)
	if err != nil {
		return err
	}
	r.files = slices.DeleteFunc(r.files, func(o *file) bool { return o.name == f.name })
	if len(r.files) == maxFiles {
		r.files = slices.Delete(r.files, 0, 1)
	}
	r.files = append(r.files, f)
	return nil
}

// piece is how much of a file goes into one message.
const piece = 32 << 10

// Download sends a file.
func (s *Server) Download(req *chatv1.DownloadRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	typ, data, err := s.open(req)
	if err != nil {
		return err
	}
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), piece)
		body := &httpbody.HttpBody{Data: data[:n]}
		if first {
			body.ContentType = typ
		}
		if err := stream.Send(body); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (s *Server) open(req *chatv1.DownloadRequest) (typ string, data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[req.GetRoom()]; r != nil {
		for _, f := range r.files {
			switch {
			case f.name != req.GetName():
			case f.data == nil:
				return "", nil, status.Errorf(codes.FailedPrecondition, "the file has %d bytes: more than %d are not kept", f.size, maxFile)
			default:
				return f.typ, slices.Clip(f.data), nil
			}
		}
	}
	return "", nil, status.Errorf(codes.NotFound, "there is no file %q in the room %q", req.GetName(), req.GetRoom())
}
