package envelope_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// sink keeps what is written.
type sink struct {
	bytes.Buffer
	flushes int
}

func (s *sink) Write(p []byte) error {
	_, err := s.Buffer.Write(p)
	return err
}

func (s *sink) Flush() error {
	s.flushes++
	return nil
}

func options(t testing.TB, method string) envelope.Options {
	t.Helper()
	return envelope.Options{Method: adaptertest.Method(t, adaptertest.Schema(t), method), Limit: 1 << 20, Budget: rpc.NewBudget(4 << 20)}
}

func enveloped(flags byte, payload []byte) string {
	prefix := envelope.Prefix(flags, len(payload))
	return string(prefix[:]) + string(payload)
}

// Answers that the service has packed pass as they are where the caller takes that, and are unpacked where not.
func TestPackedAnswers(t *testing.T) {
	wire := append([]byte{0x0a, 0xb8, 0x17}, strings.Repeat("hello ", 500)...)
	gz, err := envelope.Compress(nil, wire, envelope.Gzip)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		out  rpc.Compression
		json bool
		data []byte
		want string
		code codes.Code
	}{
		{"alike", envelope.Gzip, false, gz, enveloped(1, gz), codes.OK},
		{"unpacked", rpc.Identity, false, gz, enveloped(0, wire), codes.OK},
		{"unpacked for JSON", rpc.Identity, true, gz, enveloped(0, []byte(`{"text":"`+strings.Repeat("hello ", 500)+`"}`)), codes.OK},
		{"not what it says", rpc.Identity, false, wire, "", codes.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t, adaptertest.Unary)
			o.Out = tc.out
			if tc.json {
				o.Codec = rpcadapters.JSONForm{Options: &jsonwire.Options{}}
			}
			var s envelope.Stream
			var to sink
			s.Reset(strings.NewReader(""), &to, o)
			err := s.Send(&rpc.Message{Data: tc.data, Comp: rpc.Gzip}, false)
			if e, _ := errors.AsType[*rpc.Error](err); (e == nil) != (tc.code == codes.OK) || e != nil && e.Code != tc.code {
				t.Errorf("found %v", err)
			}
			if to.String() != tc.want {
				t.Errorf("want %q, found %q", tc.want, to.String())
			}
			s.Close()
			if n := o.Budget.Used(); n != 0 {
				t.Errorf("%d bytes of the budget are held", n)
			}
		})
	}
}

// The budget counts a request until the next is asked for, and an answer while it is made; where it is used up, calls are
// turned away and nothing stays held.
func TestStreamBudget(t *testing.T) {
	text := []byte(`{"text":"` + strings.Repeat("x", 3000) + `"}`)
	body := enveloped(0, text) + enveloped(0, []byte("{}"))
	for budget, want := range map[int64]codes.Code{100: codes.Unavailable, 4000: codes.Unavailable, 100_000: codes.OK} {
		o := options(t, adaptertest.Bidi)
		o.Budget, o.Codec = rpc.NewBudget(budget), rpcadapters.JSONForm{Options: &jsonwire.Options{}}
		var s envelope.Stream
		var to sink
		s.Reset(strings.NewReader(body), &to, o)
		var m rpc.Message
		err := s.Recv(&m)
		if e, _ := errors.AsType[*rpc.Error](err); (e == nil) != (want == codes.OK) || e != nil && (e.Code != want || e.Reason != "TRANSLATION_BUDGET") {
			t.Errorf("budget %d: found %v", budget, err)
		}
		if err == nil {
			if held := o.Budget.Used(); held < 6000 {
				t.Errorf("%d bytes are held for a message of 3000 in two forms", held)
			}
			if err := s.Send(&m, true); err != nil {
				t.Error(err)
			}
			m.Free()
			if err := s.Recv(&m); err != nil || o.Budget.Used() > 100 {
				t.Errorf("%d bytes are held for an empty message, %v", o.Budget.Used(), err)
			}
			m.Free()
			for range 2 {
				if err := s.Recv(&m); !errors.Is(err, io.EOF) {
					t.Errorf("want the end, found %v", err)
				}
			}
			// An answer beyond what is left of the budget.
			rest := int(budget - o.Budget.Used())
			if !o.Budget.Take(rest - 10) {
				t.Fatal("the budget is not what it was")
			}
			err := s.Send(&rpc.Message{Data: []byte("\x0a\x08abcdefgh")}, false)
			if e, _ := errors.AsType[*rpc.Error](err); e == nil || e.Reason != "TRANSLATION_BUDGET" {
				t.Errorf("found %v", err)
			}
			o.Budget.Give(rest - 10)
		}
		s.Close()
		if n := o.Budget.Used(); n != 0 {
			t.Errorf("budget %d: %d bytes are held", budget, n)
		}
	}
}

// An answer that is no message is the service's fault, and nothing of it goes out.
func TestInvalidAnswer(t *testing.T) {
	o := options(t, adaptertest.Unary)
	o.Codec = rpcadapters.JSONForm{Options: &jsonwire.Options{}}
	var s envelope.Stream
	var to sink
	s.Reset(strings.NewReader(""), &to, o)
	err := s.Send(&rpc.Message{Data: []byte{0xff}}, false)
	if e, _ := errors.AsType[*rpc.Error](err); e == nil || e.Code != codes.Internal || e.Reason != "INVALID_ANSWER" || to.Len() > 0 {
		t.Errorf("found %v, %d bytes", err, to.Len())
	}
	if s.Failed() != nil {
		t.Error("want the stream to take its end still")
	}
}
