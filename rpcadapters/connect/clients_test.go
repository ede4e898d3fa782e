package connect_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	connectgo "connectrpc.com/connect"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/connect"
)

func serve(t *testing.T) string {
	t.Helper()
	f, err := connect.NewFace()
	if err != nil {
		t.Fatal(err)
	}
	return adaptertest.Serve(t, &adaptertest.Gateway{Faces: []rpcadapters.Face{f}})
}

func TestConnectGo(t *testing.T) {
	adaptertest.ConnectGo(t, serve(t), true)
}

// A method without side effects is called by GET.
func TestConnectGoByGet(t *testing.T) {
	address := serve(t)
	for name, opts := range map[string][]connectgo.ClientOption{"proto": nil, "json": {connectgo.WithProtoJSON()}, "gzip": {connectgo.WithSendGzip()}} {
		t.Run(name, func(t *testing.T) {
			verbs := &verbs{next: adaptertest.HTTP1(t).Transport}
			opts = append(opts, connectgo.WithHTTPGet(), connectgo.WithIdempotency(connectgo.IdempotencyNoSideEffects))
			client := connectgo.NewClient[adaptertest.Message, adaptertest.Message](&http.Client{Transport: verbs}, "http://"+address+adaptertest.Safe, opts...)
			text := strings.Repeat("ü?&=+ ", 100)
			req := connectgo.NewRequest(&adaptertest.Message{Text: text})
			req.Header().Set("x-echo", "a")
			res, err := client.CallUnary(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if res.Msg.GetText() != text || res.Header().Get("x-echo") != "a" || verbs.last != "GET" {
				t.Errorf("found %v by %s", res.Msg, verbs.last)
			}
			if _, err := client.CallUnary(t.Context(), connectgo.NewRequest(&adaptertest.Message{Text: "fail 5 no"})); connectgo.CodeOf(err) != connectgo.CodeNotFound {
				t.Errorf("want not_found, found %v", err)
			}
		})
	}
}

// verbs sees how requests are made.
type verbs struct {
	next http.RoundTripper
	last string
}

func (v *verbs) RoundTrip(r *http.Request) (*http.Response, error) {
	v.last = r.Method
	return v.next.RoundTrip(r)
}

// Over HTTP/1.1 a bidirectional stream is half-duplex for a client that sends all before it reads; the answers are there.
func TestHalfDuplex(t *testing.T) {
	body := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x18, 1}
	res, err := adaptertest.HTTP1(t).Post("http://"+serve(t)+adaptertest.Bidi, "application/connect+proto", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if want := string(body) + "\x02\x00\x00\x00\x02{}"; err != nil || string(got) != want || res.StatusCode != 200 {
		t.Errorf("want %q, found %d %q, %v", want, res.StatusCode, got, err)
	}
}
