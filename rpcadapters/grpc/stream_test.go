package grpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// startRaw is a grpc-go server whose every method is handled by one function on raw bytes.
func startRaw(t *testing.T, handle func(grpc.ServerStream) error, opts ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts = append(opts, grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return handle(s) }))
	s := grpc.NewServer(opts...)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		wg.Wait()
	})
	return l.Addr().String()
}

// parrot sends back what it receives, between a header and a trailer.
func parrot(s grpc.ServerStream) error {
	_ = s.SetHeader(metadata.Pairs("x-head", "1"))
	s.SetTrailer(metadata.Pairs("x-tail-bin", "\x00\x01"))
	for {
		var m []byte
		if err := s.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if string(m) == "fail" {
			return status.Error(codes.DataLoss, "as you wish")
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

func openStream(t *testing.T, tr rpcadapters.Streamer) rpcadapters.ClientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	s, err := tr.Open(ctx, call("/a.B/Chat", "x-one", "1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestBidiStream(t *testing.T) {
	tr := dial(t, rpcadapters.Target{Address: startRaw(t, parrot)})
	s := openStream(t, tr)
	sizes := []int{0, 1, 100, 70_000, 0, 16_379, 16_384, 1 << 20, 5}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i, n := range sizes {
			out := &rpc.Message{Data: bytes.Repeat([]byte{byte(i)}, n)}
			if i%3 == 1 {
				out = &rpc.Message{Data: []byte(zip(string(out.Data))), Comp: rpc.Gzip}
			}
			if err := s.Send(out); err != nil {
				t.Error(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	var m rpc.Message
	defer m.Free()
	for i, n := range sizes {
		if err := s.Recv(&m); err != nil || !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, n)) {
			t.Fatalf("message %d: want %d bytes, found %d, %v", i, n, len(m.Data), err)
		}
	}
	m.Free()
	wg.Wait()
	if h, err := s.Header(); err != nil || h.Get("x-head") != "1" {
		t.Errorf("found %v, %v", h, err)
	}
	for range 2 {
		if err := s.Recv(&m); !errors.Is(err, io.EOF) {
			t.Errorf("want a clean end, found %v", err)
		}
	}
	if !s.Ready() || s.Trailer().Get("x-tail-bin") != "\x00\x01" {
		t.Errorf("found %v, %v", s.Ready(), s.Trailer())
	}
}

func TestStreamEndsWithTheServicesError(t *testing.T) {
	tr := dial(t, rpcadapters.Target{Address: startRaw(t, parrot)})
	s := openStream(t, tr)
	for _, m := range []string{"a", "fail", "never read"} {
		if err := s.Send(&rpc.Message{Data: []byte(m)}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	var m rpc.Message
	if err := s.Recv(&m); err != nil || string(m.Data) != "a" {
		t.Fatalf("found %q, %v", m.Data, err)
	}
	m.Free()
	for range 2 {
		var e *rpc.Error
		if err := s.Recv(&m); !errors.As(err, &e) || e.Code != codes.DataLoss || e.Message != "as you wish" || e.Class != rpc.Business || !e.Executed {
			t.Errorf("found %+v", e)
		}
	}
	if s.Trailer().Get("x-tail-bin") == "" {
		t.Error("want the trailer with the error")
	}
	if err := s.Send(&rpc.Message{}); !errors.Is(err, io.EOF) {
		t.Errorf("want io.EOF for who sends after the end, found %v", err)
	}
}

// Ready says beforehand whether Recv will wait.
func TestStreamReady(t *testing.T) {
	next := make(chan struct{})
	tr := dial(t, rpcadapters.Target{Address: startRaw(t, func(s grpc.ServerStream) error {
		_ = s.SendHeader(nil)
		<-next
		_ = s.SendMsg([]byte("one"))
		_ = s.SendMsg([]byte("two"))
		<-next
		return nil
	})})
	s := openStream(t, tr)
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	if s.Ready() {
		t.Error("want nothing ready")
	}
	next <- struct{}{}
	var m rpc.Message
	for range 2 {
		eventually(t, "a message", s.Ready)
		if err := s.Recv(&m); err != nil {
			t.Fatal(err)
		}
		m.Free()
	}
	if s.Ready() {
		t.Error("want nothing more ready")
	}
	next <- struct{}{}
	eventually(t, "the end", s.Ready)
	if err := s.Recv(&m); !errors.Is(err, io.EOF) {
		t.Errorf("found %v", err)
	}
}

// What a stream of a lying server is made of comes out message by message, and its end is called by its name.
func TestLyingStream(t *testing.T) {
	const malformed, reset = "UPSTREAM_MALFORMED", "UPSTREAM_RESET"
	bomb := flagged(1, zip(strings.Repeat("0", 4<<20))) // made before anybody waits for it
	for _, tc := range []struct {
		name   string
		answer func(id uint32) []byte
		after  int
		got    string
		code   codes.Code
		reason string
	}{
		{name: "honest", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, join(message("a"), message("b"))), okay(id))
		}, got: "a,b"},
		{name: "nothing", answer: func(id uint32) []byte { return join(grpcHead(id), okay(id)) }},
		{name: "trailers only", answer: func(id uint32) []byte {
			return headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
		}},
		{name: "gzip", answer: func(id uint32) []byte {
			return join(grpcHead(id, "grpc-encoding", "gzip"), data(id, false, join(flagged(1, zip("a")), message("b"))), okay(id))
		}, got: "a,b"},
		{name: "bomb", answer: func(id uint32) []byte {
			return join(grpcHead(id, "grpc-encoding", "gzip"), data(id, false, join(message("a"), bomb)), okay(id))
		}, got: "a", code: codes.ResourceExhausted, reason: "ANSWER_TOO_LARGE"},
		{name: "too large", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, []byte{0, 255, 255, 255, 255}))
		}, code: codes.ResourceExhausted, reason: "ANSWER_TOO_LARGE"},
		{name: "hangs up", answer: func(id uint32) []byte { return join(grpcHead(id), data(id, false, message("a"))) }, after: hangUp, got: "a", code: codes.Unavailable, reason: reset},
		{name: "hangs up in a message", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, join(message("a"), message("b")[:5])))
		}, after: hangUp, got: "a", code: codes.Unavailable, reason: reset},
		{name: "reset", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, message("a")), rawFrame(nil, tReset, 0, id, u32(2)))
		}, got: "a", code: codes.Internal, reason: reset},
		{name: "ends without trailers", answer: func(id uint32) []byte { return join(grpcHead(id), data(id, true, message("a"))) }, got: "a", code: codes.Internal, reason: malformed},
		{name: "no status", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, message("a")), headers(id, true, "x", "y"))
		}, got: "a", code: codes.Unknown, reason: malformed},
		{name: "cut in a message", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, join(message("a"), message("b")[:5])), okay(id))
		}, got: "a", code: codes.Internal, reason: malformed},
		{name: "cut in a prefix", answer: func(id uint32) []byte {
			return join(grpcHead(id), data(id, false, join(message("a"), message("b")[:3])), okay(id))
		}, got: "a", code: codes.Internal, reason: malformed},
		{name: "bad flag", answer: func(id uint32) []byte { return join(grpcHead(id), data(id, false, flagged(2, "x")), okay(id)) }, code: codes.Internal, reason: malformed},
		{name: "html", answer: func(id uint32) []byte {
			return join(headers(id, false, ":status", "404", "content-type", "text/html"), data(id, true, []byte("<html>")))
		}, code: codes.Unimplemented, reason: "UPSTREAM_NOT_GRPC"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := startLiar(t, nil, tc.answer, tc.after)
			s := openStream(t, dial(t, rpcadapters.Target{Address: l.address, MaxMessage: 40_000}))
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			var got []string
			var m rpc.Message
			var err error
			for err = s.Recv(&m); err == nil; err = s.Recv(&m) {
				got = append(got, string(m.Data))
				m.Free()
			}
			if strings.Join(got, ",") != tc.got {
				t.Errorf("want %q, found %.100q", tc.got, got)
			}
			if tc.reason == "" {
				if !errors.Is(err, io.EOF) {
					t.Errorf("want a clean end, found %v", err)
				}
				return
			}
			var e *rpc.Error
			if !errors.As(err, &e) || e.Code != tc.code || e.Reason != tc.reason || !e.Executed {
				t.Errorf("want %v %s, found %v", tc.code, tc.reason, err)
			}
		})
	}
}

// What one caller does not take holds up its own stream at its window, and no other.
func TestSlowConsumerHoldsItsOwnStream(t *testing.T) {
	piece := make([]byte, 8<<10)
	sent := make(chan int, 1<<16)
	address := startRaw(t, func(s grpc.ServerStream) error {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		for i := range 1000 {
			if err := s.SendMsg(piece); err != nil {
				return err
			}
			sent <- i
		}
		return nil
	})
	tr := dial(t, rpcadapters.Target{Address: address})
	slow := openStream(t, tr)
	_ = slow.Send(&rpc.Message{})
	eventually(t, "a message", slow.Ready)
	fast := openStream(t, tr)
	_ = fast.Send(&rpc.Message{})
	var m rpc.Message
	for n := 0; ; n++ {
		if err := fast.Recv(&m); errors.Is(err, io.EOF) || n == 1000 {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		m.Free()
	}
	_, held, _ := slow.(*clientStream).s.Peek(nil)
	if held > 64<<10 {
		t.Errorf("want 64 KiB held at the most, found %d", held)
	}
	// grpc-go holds 64 KiB in its own queue too.
	if n := len(sent); n > 1000+40 {
		t.Errorf("want the slow stream's server held up, found %d messages sent", n)
	}
	for n := range 1000 {
		if err := slow.Recv(&m); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		m.Free()
	}
}

func TestCancelledStream(t *testing.T) {
	ended := make(chan struct{})
	tr := dial(t, rpcadapters.Target{Address: startRaw(t, func(s grpc.ServerStream) error {
		<-s.Context().Done()
		close(ended)
		return nil
	})})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := tr.Open(ctx, call("/a.B/Chat"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	var m rpc.Message
	var e *rpc.Error
	if err := s.Recv(&m); !errors.As(err, &e) || e.Code != codes.Canceled {
		t.Errorf("found %v", err)
	}
	<-ended
	if _, err := tr.Open(ctx, call("/a.B/Chat")); !errors.As(err, &e) || e.Code != codes.Canceled || e.Executed {
		t.Errorf("found %v", err)
	}
}

// certificates makes an authority and a certificate by it for 127.0.0.1.
func certificates(t *testing.T) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	pool, cert := certificates(t)
	mutual := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	s := echo.Start(t, "127.0.0.1:0", "secure", grpc.Creds(mutual), grpc.MaxRecvMsgSize(8<<20))
	tr := dial(t, rpcadapters.Target{Address: s.Address, TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, MaxMessage: 8 << 20})
	var wg sync.WaitGroup
	for i := range 20 {
		text := strconv.Itoa(i)
		wg.Go(func() {
			for range 20 {
				var out echov1.CallReply
				if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Text: text, Fill: 20_000}, &out); err != nil || out.GetText() != text || out.GetInstance() != "secure" {
					t.Errorf("found %q, %v", out.GetText(), err)
				}
			}
		})
	}
	wg.Wait()
	if s.Conns.Load() != 1 {
		t.Errorf("found %d connections", s.Conns.Load())
	}
	var out echov1.CallReply
	if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Data: make([]byte, 4<<20)}, &out); err != nil || len(out.GetData()) != 4<<20 {
		t.Errorf("found %d, %v", len(out.GetData()), err)
	}
	for name, cfg := range map[string]*tls.Config{
		"no certificate of ours": {RootCAs: pool},
		"authority not trusted":  {Certificates: []tls.Certificate{cert}},
		"another name":           {RootCAs: pool, Certificates: []tls.Certificate{cert}, ServerName: "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := dial(t, rpcadapters.Target{Address: s.Address, TLS: cfg})
			_, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, nil)
			var e *rpc.Error
			if !errors.As(err, &e) || e.Reason != "UPSTREAM_UNREACHABLE" || e.Executed {
				t.Errorf("found %+v: %v", e, err)
			}
		})
	}
	t.Run("no h2", func(t *testing.T) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_ = c.(*tls.Conn).HandshakeContext(context.Background())
				_ = c.Close()
			}
		}()
		tr := dial(t, rpcadapters.Target{Address: l.Addr().String(), TLS: &tls.Config{RootCAs: pool}})
		_, err = invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, nil)
		var e *rpc.Error
		if !errors.As(err, &e) || e.Reason != "UPSTREAM_UNREACHABLE" {
			t.Errorf("found %v", err)
		}
	})
}
