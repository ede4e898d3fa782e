package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

const adapterModule = "../../testdata/adapter"

// A stranger's protocol, in a module of its own, passes its tests and is built into a gateway by the steps of the tutorial. There
// REST and gRPC callers reach a service that speaks it, and a client that speaks it reaches a gRPC service.
func TestTutorialAdapter(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../rpcadapters/README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the text is that of the files", func(t *testing.T) { tutorialText(t, string(readme), adapterModule, 8) })
	program := tutorialBinary(t, string(readme), adapterModule, "../jframe")

	backend := startFrames(t)
	inner := echo.Start(t, "127.0.0.1:0", "grpc")
	dir := t.TempDir()
	front, frames := reserve(t), reserve(t)
	file := filepath.Join(dir, "causeway.yaml")
	text := strings.ReplaceAll(echoConfig(t, dir, inner.Address), "DIR", dir)
	text = strings.Replace(text, "- address: 127.0.0.1:0\n", "- address: "+front+"\n  - {address: \""+frames+"\", protocol: jframe}\n", 1)
	text = strings.Replace(text, "plugins:", `  - name: framed
    schema: echo
    adapter: jframe
    endpoints: [{address: "`+backend+`"}]
    health_check: {adapter: {}}
routes:
  - {name: framed, hosts: [framed.test], service: framed, methods: ["*"]}
  - {name: direct, service: echo, methods: ["*"]}
plugins:`, 1)
	writeFile(t, file, []byte(text))
	log := runTutorial(t, program, file)
	waitFor(t, "the gateway listens", func() bool { return strings.Count(log.String(), `"msg":"listening"`) >= 2 })

	t.Run("REST to frames", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		a := send(t, client, "POST", "http://"+front+"/v1/echo", `{"text":"<hello>","number":"42","data":"AQI="}`, "Host", "framed.test", "Grpc-Metadata-App-Tenant", "acme")
		if a.status != 200 || a.text(t, "text") != "<hello>" || a.text(t, "number") != "42" || a.text(t, "data") != "AQI=" || a.text(t, "instance") != "frames" {
			t.Errorf("found %d %s", a.status, a.body)
		}
		if got := a.text(t, "metadata", "app-tenant"); got != "acme" {
			t.Errorf("want metadata there, found %s", a.body)
		}
		if a = send(t, client, "GET", "http://"+front+"/v1/fail/5", "", "Host", "framed.test"); a.status != 404 || !strings.Contains(a.body, "no such thing") {
			t.Errorf("want the error of the service, found %d %s", a.status, a.body)
		}
	})
	t.Run("gRPC to frames", func(t *testing.T) {
		conn, err := grpc.NewClient(front, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("framed.test"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "app-tenant", "acme")
		reply, err := echov1.NewEchoClient(conn).Call(ctx, &echov1.CallRequest{Text: "hi", Number: 1 << 60})
		if err != nil || reply.GetText() != "hi" || reply.GetNumber() != 1<<60 || reply.GetInstance() != "frames" || reply.GetMetadata()["app-tenant"] != "acme" {
			t.Errorf("found %v %v", reply, err)
		}
		if _, err = echov1.NewEchoClient(conn).Fail(ctx, &echov1.FailRequest{Code: 5}); status.Code(err) != codes.NotFound {
			t.Errorf("want the error of the service, found %v", err)
		}
	})
	t.Run("frames to gRPC", func(t *testing.T) {
		conn, err := net.DialTimeout("tcp", frames, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a connection that is open has deadlines
		for id, request := range []string{
			`"method":"demo.echo.v1.Echo/Call","timeout":20000,"header":{"app-tenant":"acme","x-consumer-name":"root"},"body":{"text":"hi","number":"7"}`,
			`"method":"demo.echo.v1.Echo/Fail","body":{"code":5,"message":"gone"}`,
			`"method":"demo.echo.v1.Echo/None","body":{}`,
			`"method":"demo.echo.v1.Echo/Call","body":{"text":7}`,
		} {
			writeJSONFrame(t, conn, fmt.Appendf(nil, `{"id":%d,%s}`, id+1, request))
		}
		got := map[int]jsonFrame{}
		for len(got) < 4 {
			var f jsonFrame
			if err := readJSONFrame(conn, &f); err != nil {
				t.Fatalf("after %d answers: %v", len(got), err)
			}
			got[f.ID] = f
		}
		body := string(got[1].Body)
		if !strings.Contains(body, `"instance":"grpc"`) || !strings.Contains(body, `"number":"7"`) || !strings.Contains(body, `"app-tenant":"acme"`) ||
			!strings.Contains(body, `"deadline"`) || strings.Contains(body, "root") {
			t.Errorf("found %s", body)
		}
		for id, want := range map[int]codes.Code{2: codes.NotFound, 3: codes.Unimplemented, 4: codes.InvalidArgument} {
			if e := got[id].Error; e == nil || codes.Code(e.Code) != want || e.Message == "" {
				t.Errorf("call %d: want %v, found %+v", id, want, e)
			}
		}
	})
}

// jsonFrame is what the protocol of the tutorial sends, in both directions.
type jsonFrame struct {
	ID     int               `json:"id"`
	Method string            `json:"method,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
	Error  *jsonFault        `json:"error,omitempty"`
}

type jsonFault struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
}

func writeJSONFrame(t *testing.T, w io.Writer, text []byte) {
	t.Helper()
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)); err != nil {
		t.Error(err)
	}
}

func readJSONFrame(r io.Reader, f *jsonFrame) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return json.Unmarshal(text, f)
}

// startFrames serves Echo over the protocol of the tutorial until the test ends.
func startFrames(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() { answerFrames(t, c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

func answerFrames(t *testing.T, c net.Conn) {
	for {
		var f jsonFrame
		if readJSONFrame(c, &f) != nil {
			return
		}
		a := jsonFrame{ID: f.ID}
		switch f.Method {
		case "demo.echo.v1.Echo/Call":
			var body map[string]any
			if err := json.Unmarshal(f.Body, &body); err != nil {
				t.Error(err)
			}
			body["instance"], body["metadata"] = "frames", f.Header
			a.Body, _ = json.Marshal(body) // of JSON
		default:
			a.Error = &jsonFault{Code: 5, Message: "no such thing"}
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Error(err)
		}
		writeJSONFrame(t, c, text)
	}
}
