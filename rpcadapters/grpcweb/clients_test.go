package grpcweb_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/grpcweb"
)

func TestConnectGo(t *testing.T) {
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{grpcweb.NewFace()}}
	adaptertest.ConnectGo(t, adaptertest.Serve(t, g), true, connect.WithGRPCWeb())
}

// Text as a browser's script sends and reads it: each message is there, in whole groups, when it was flushed.
func TestTextStream(t *testing.T) {
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{grpcweb.NewFace()}}
	address := adaptertest.Serve(t, g)
	for name, client := range map[string]*http.Client{"HTTP1": adaptertest.HTTP1(t), "HTTP2": adaptertest.HTTP2(t)} {
		t.Run(name, func(t *testing.T) {
			in, out := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+adaptertest.Bidi, in)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("content-type", "application/grpc-web-text+proto")
			message := base64.StdEncoding.EncodeToString([]byte{0, 0, 0, 0, 2, 0x18, 1})
			sent := make(chan error, 1)
			first := make(chan struct{})
			go func() {
				_, err := io.WriteString(out, message)
				if name == "HTTP2" {
					<-first // full duplex
				}
				_, err2 := io.WriteString(out, message)
				sent <- errors.Join(err, err2, out.Close())
			}()
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got := make([]byte, len(message))
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != message {
				t.Errorf("want %q, found %q, %v", message, got, err)
			}
			close(first)
			rest, err := io.ReadAll(res.Body)
			end := base64.StdEncoding.EncodeToString([]byte("\x80\x00\x00\x00\x10grpc-status: 0\r\n"))
			if want := message + end; err != nil || string(rest) != want {
				t.Errorf("want %q, found %q, %v", want, rest, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}
