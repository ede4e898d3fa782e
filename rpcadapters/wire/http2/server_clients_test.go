package http2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// echo sends a body back as it comes, with its size in a trailer.
func echo(_ context.Context, x *wire.Exchange) {
	if x.WriteHead(200, rpc.Metadata{{Key: "content-type", Value: "application/octet-stream"}, {Key: "x-method", Value: x.HTTP.Method}}) != nil {
		return
	}
	b := make([]byte, 8<<10)
	size := 0
	for {
		n, err := x.Read(b)
		if n > 0 {
			size += n
			if x.Write(b[:n]) != nil || x.Flush() != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	_ = x.End(rpc.Metadata{{Key: "x-size", Value: strconv.Itoa(size)}})
}

// Go's own client, over TLS and in plain text, many calls at once with bodies above the windows.
func TestServerWithNetHTTP(t *testing.T) {
	conf := serverTLS(t)
	for _, secure := range []bool{false, true} {
		t.Run("tls="+strconv.FormatBool(secure), func(t *testing.T) {
			var p http.Protocols
			tr := &http.Transport{Protocols: &p}
			var s *listening
			scheme := "http"
			if secure {
				s, scheme = serve(t, Limits{}, conf, echo), "https"
				p.SetHTTP2(true)
				tr.TLSClientConfig = clientTLS(t, conf)
			} else {
				s = serve(t, Limits{}, nil, echo)
				p.SetUnencryptedHTTP2(true)
			}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
			var wg sync.WaitGroup
			for i := range 40 {
				wg.Go(func() {
					body := bytes.Repeat([]byte{byte(i)}, i*i*700)
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+s.address+"/echo", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(got, body) || resp.ProtoMajor != 2 || resp.Trailer.Get("X-Size") != strconv.Itoa(len(body)) {
						t.Errorf("%d: found %v, %d bytes of %d, %s, trailer %v", i, err, len(got), len(body), resp.Proto, resp.Trailer)
					}
				})
			}
			wg.Wait()
			resp, err := client.Head(scheme + "://" + s.address + "/")
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close() // empty
			if resp.StatusCode != 200 || resp.Header.Get("X-Method") != "HEAD" {
				t.Errorf("HEAD: found %v", resp)
			}
			if n := len(s.list()); n != 1 {
				t.Errorf("want one connection for all, found %d", n)
			}
		})
	}
}

// unaryEcho answers a unary gRPC call with its message, or with the status that its path names.
func unaryEcho(ctx context.Context, x *wire.Exchange) {
	body, err := io.ReadAll(x)
	if err != nil || len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		_ = x.Respond(400, nil, nil)
		return
	}
	head := rpc.Metadata{{Key: "content-type", Value: "application/grpc"}}
	switch x.HTTP.Path {
	case "/t.T/Hang":
		<-ctx.Done()
		return
	case "/t.T/Missing":
		_ = x.WriteHead(200, append(head, rpc.Pair{Key: "grpc-status", Value: "5"}, rpc.Pair{Key: "grpc-message", Value: "no such thing"}))
		_ = x.End(nil)
		return
	}
	_ = x.WriteHead(200, head)
	_ = x.Write(body)
	_ = x.End(rpc.Metadata{{Key: "grpc-status", Value: "0"}})
}

func TestServerWithGRPCGo(t *testing.T) {
	conf := serverTLS(t)
	for _, secure := range []bool{false, true} {
		t.Run("tls="+strconv.FormatBool(secure), func(t *testing.T) {
			var s *listening
			creds := insecure.NewCredentials()
			if secure {
				s = serve(t, Limits{}, conf, unaryEcho)
				creds = credentials.NewTLS(clientTLS(t, conf))
			} else {
				s = serve(t, Limits{}, nil, unaryEcho)
			}
			cc, err := grpc.NewClient("passthrough:"+s.address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					in, out := bytes.Repeat([]byte{byte(i)}, i*i*10), []byte(nil)
					if err := cc.Invoke(t.Context(), "/t.T/Echo", &in, &out); err != nil || !bytes.Equal(in, out) {
						t.Errorf("%d: found %v and %d bytes of %d", i, err, len(out), len(in))
					}
				})
			}
			wg.Wait()
			in, out := []byte("x"), []byte(nil)
			if err := cc.Invoke(t.Context(), "/t.T/Missing", &in, &out); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "no such thing") {
				t.Errorf("found %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := cc.Invoke(ctx, "/t.T/Hang", &in, &out); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("found %v", err)
			}
			c := s.one(t)
			eventually(t, "the call that was given up has ended", c.Idle)
			// Drained, the client goes elsewhere without a call lost.
			c.Drain()
			for range 20 {
				if err := cc.Invoke(t.Context(), "/t.T/Echo", &in, &out); err != nil {
					t.Errorf("while draining: %v", err)
				}
			}
		})
	}
}

func TestServerWithCurl(t *testing.T) {
	curl := realserver.Need(t, "curl", "curl")
	conf := serverTLS(t)
	plain, secure := serve(t, Limits{}, nil, echo), serve(t, Limits{}, conf, echo)
	large := strings.Repeat("0123456789", 30_000)
	for _, tc := range []struct {
		name string
		args []string
		in   string
		want string
	}{
		{"GET", []string{"--http2-prior-knowledge", "http://" + plain.address + "/"}, "", ""},
		{"POST", []string{"--http2-prior-knowledge", "--data-binary", "@-", "http://" + plain.address + "/"}, large, large},
		{"POST after 100 Continue", []string{"--http2-prior-knowledge", "-H", "Expect: 100-continue", "--data-binary", "@-", "http://" + plain.address + "/"}, "abc", "abc"},
		{"PUT over TLS", []string{"-k", "--http2", "-T", "-", "https://" + secure.address + "/"}, large, large},
		{"twice on one connection", []string{"-k", "--http2", "-d", "ab", "https://" + secure.address + "/1", "https://" + secure.address + "/2"}, "", "abab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "--max-time", "20"}, tc.args...)...)
			cmd.Stdin = strings.NewReader(tc.in)
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil || string(out) != tc.want {
				t.Errorf("%v %s: want %d bytes, found %d", err, said.Bytes(), len(tc.want), len(out))
			}
		})
	}
}

func TestServerWithH2load(t *testing.T) {
	h2load := realserver.Need(t, "h2load", "nghttp2-client")
	s := serve(t, Limits{}, nil, hello)
	out, err := exec.CommandContext(t.Context(), h2load, "-n", "20000", "-c", "8", "-m", "50", "-t", "1", "http://"+s.address+"/").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout") {
		t.Errorf("%v: %s", err, out)
	}
}
