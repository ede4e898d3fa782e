package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// versions are clients of each HTTP version.
func versions(t testing.TB) map[string]*http.Client {
	t.Helper()
	clients := map[string]*http.Client{}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		var p http.Protocols
		set(&p)
		tr := &http.Transport{Protocols: &p}
		t.Cleanup(tr.CloseIdleConnections)
		clients[name] = &http.Client{Transport: tr}
	}
	return clients
}

// streamed is an answer read as far as it goes.
type streamed struct {
	status int
	header http.Header
	body   string
	err    error // of reading
}

// whole is what a sensible client makes of an answer: that it is all there, and no failure.
func (s streamed) whole(form string) bool {
	if s.status != http.StatusOK || s.err != nil {
		return false
	}
	switch form {
	case "application/json":
		return json.Valid([]byte(s.body))
	case "application/x-ndjson":
		return !strings.Contains(s.body, `{"@error":`)
	case "text/event-stream":
		return strings.Contains(s.body, "event: end\n")
	}
	return true
}

func stream(t testing.TB, client *http.Client, method, url string, body io.Reader, header ...string) streamed {
	t.Helper()
	return streamUntil(t, client, method, url, body, "", func() {}, header...)
}

// streamUntil is stream, and does something in the middle: when so much of the answer is there, the head for "".
func streamUntil(t testing.TB, client *http.Client, method, url string, body io.Reader, until string, then func(), header ...string) streamed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return streamed{err: err}
	}
	defer resp.Body.Close()
	got := ""
	for buf := make([]byte, 1000); !strings.Contains(got, until); {
		n, err := resp.Body.Read(buf)
		if got += string(buf[:n]); err != nil {
			return streamed{resp.StatusCode, resp.Header, got, err}
		}
	}
	then()
	raw, err := io.ReadAll(resp.Body)
	return streamed{resp.StatusCode, resp.Header, got + string(raw), err}
}

// inTime makes a call that is to have time for something before its time is over, with more time until it has: on a busy
// machine a deadline may pass before the call has reached the service.
func inTime[T any](call func(limit string) T, had func(T) bool) (got T) {
	for _, limit := range []string{"0.2s", "2s", "20s"} {
		if got = call(limit); had(got) {
			break
		}
	}
	return got
}

const (
	m0 = `{"room":"ROOM","text":"message 0"}`
	m1 = `{"room":"ROOM","text":"message 1"}`
	// denied is the status of fail7, timely that of a deadline: the gateway's, or the service's if that comes first.
	denied = `{"code":7,"message":"asked to","details":[]}`
	timely = `{"code":4,"message":"deadline exceeded","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"DEADLINE_EXCEEDED","domain":"causeway"}]}`
	theirs = `{"code":4,"message":"context deadline exceeded","details":[]}`
)

// Every form, every end, both versions of HTTP: what is sent, and that nothing but a good end looks like one.
func TestStreamForms(t *testing.T) {
	forms := map[string]map[string]string{
		"application/json": {
			"2": "[" + m0 + ",\n" + m1 + "]", "0": "[]", "head.0": "[]",
			"head.gate.fail7": `[{"@error":` + denied + `}`, "2.fail7": "[" + m0 + ",\n" + m1 + ",\n" + `{"@error":` + denied + `}`,
			"2.wait": "[" + m0 + ",\n" + m1 + ",\n" + `{"@error":` + timely + `}`,
		},
		"application/x-ndjson": {
			"2": m0 + "\n" + m1 + "\n", "0": "", "head.0": "",
			"head.gate.fail7": `{"@error":` + denied + "}\n", "2.fail7": m0 + "\n" + m1 + "\n" + `{"@error":` + denied + "}\n",
			"2.wait": m0 + "\n" + m1 + "\n" + `{"@error":` + timely + "}\n",
		},
		"text/event-stream": {
			"2": "data: " + m0 + "\n\ndata: " + m1 + "\n\nevent: end\ndata: {\"code\":0}\n\n", "0": "event: end\ndata: {\"code\":0}\n\n",
			"head.0":          "event: end\ndata: {\"code\":0}\n\n",
			"head.gate.fail7": "event: error\ndata: " + denied + "\n\n", "2.fail7": "data: " + m0 + "\n\ndata: " + m1 + "\n\nevent: error\ndata: " + denied + "\n\n",
			"2.wait": "data: " + m0 + "\n\ndata: " + m1 + "\n\nevent: error\ndata: " + timely + "\n\n",
		},
	}
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for version, client := range versions(t) {
		for form, ends := range forms {
			for room, want := range ends {
				t.Run(version+"/"+form+"/"+room, func(t *testing.T) {
					url := g.url + "/v1/rooms/" + room + "/messages"
					var a streamed
					switch {
					case strings.Contains(room, "wait"):
						a = inTime(func(limit string) streamed {
							return stream(t, client, "GET", url, nil, "Accept", form, "X-Request-Timeout", limit)
						}, func(a streamed) bool { return strings.Contains(a.body, "message 1") })
					case strings.Contains(room, "gate"):
						a = streamUntil(t, client, "GET", url, nil, "", b.goOn, "Accept", form)
					default:
						a = stream(t, client, "GET", url, nil, "Accept", form)
					}
					if d := cmp.Diff(strings.ReplaceAll(want, "ROOM", room), strings.Replace(a.body, theirs, timely, 1)); d != "" || a.status != 200 || a.err != nil {
						t.Errorf("%d %v, body (-want +got):\n%s", a.status, a.err, d)
					}
					if ct := a.header.Get("Content-Type"); ct != form {
						t.Errorf("content type: want %s, found %s", form, ct)
					}
					if well := !strings.Contains(room, "fail") && !strings.Contains(room, "wait"); a.whole(form) != well {
						t.Errorf("looks whole: %v, want %v", a.whole(form), well)
					}
					if strings.HasPrefix(room, "head") && a.header.Get("Grpc-Metadata-X-Head") != "yes" {
						t.Errorf("the service's metadata is missing in %v", a.header)
					}
				})
			}
			t.Run(version+"/"+form+"/fails before it begins", func(t *testing.T) {
				a := stream(t, client, "GET", g.url+"/v1/rooms/fail7/messages", nil, "Accept", form)
				if a.status != 403 || a.body != denied || a.header.Get("Content-Type") != "application/json" {
					t.Errorf("found %+v", a)
				}
			})
			t.Run(version+"/"+form+"/the server is killed", func(t *testing.T) {
				b := startChat(t)
				g := startChatGateway(t, b, "")
				t.Cleanup(client.CloseIdleConnections)
				a := streamUntil(t, client, "GET", g.url+"/v1/rooms/2.wait/messages", nil, "message 1", b.server.Stop, "Accept", form)
				if a.whole(form) || !strings.Contains(a.body, `"code":14`) || !strings.Contains(a.body, "message 1") {
					t.Errorf("want UNAVAILABLE behind two messages, found %+v", a)
				}
			})
			t.Run(version+"/"+form+"/the client leaves", func(t *testing.T) { clientLeaves(t, g, b, client, "/v1/rooms/2.wait/messages", form) })
		}
		t.Run(version+"/content", func(t *testing.T) { contentForms(t, g, b, client) })
	}
}

// clientLeaves leaves in the middle of an answer and says how long the service took to hear of it.
func clientLeaves(t *testing.T, g *gatewayTest, b *chatBackend, client *http.Client, path, form string) {
	t.Helper()
	before := b.cancelled.Load()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", form)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAtLeast(resp.Body, make([]byte, 1000), 10); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	cancel()
	waitFor(t, "the service to hear that the client has gone", func() bool { return b.cancelled.Load() == before+1 })
	took := time.Unix(0, b.left.Load()).Sub(left)
	t.Logf("the service heard after %s", took.Round(time.Millisecond))
	if took > 10*time.Second { // before anything else could end the call
		t.Errorf("want it to hear at once, it took %s", took)
	}
}

// contentForms are the ends of an answer that is the data of google.api.HttpBody messages: nothing can be said in it, so a
// failure cuts it.
func contentForms(t *testing.T, g *gatewayTest, b *chatBackend, client *http.Client) {
	for room, want := range map[string]streamed{
		"2":                {status: 200, body: "piece 0\npiece 1\n"},
		"0":                {status: 200},
		"head.0":           {status: 200},
		"fail7":            {status: 403, body: denied},
		"head.pause.fail7": {status: 403, body: denied},
		"2.fail7":          {err: errCut},
		"2.wait":           {err: errCut},
	} {
		a := inTime(func(limit string) streamed {
			if !strings.Contains(room, "wait") {
				limit = "30s"
			}
			return stream(t, client, "GET", g.url+"/v1/rooms/"+room+"/files/x", nil, "X-Request-Timeout", limit)
		}, func(a streamed) bool { return !strings.Contains(room, "wait") || a.err != nil })
		if want.err != nil {
			if a.err == nil {
				t.Errorf("%s: want the answer cut, found %+v", room, a)
			}
			continue
		}
		if a.status != want.status || a.body != want.body || a.err != nil {
			t.Errorf("%s: want %+v, found %+v", room, want, a)
		}
		if ct := a.header.Get("Content-Type"); room == "2" && ct != "text/plain" {
			t.Errorf("%s: want the type of the first message, found %q", room, ct)
		}
	}
	clientLeaves(t, g, b, client, "/v1/rooms/2.wait/files/x", "")
	killed := startChat(t)
	kg := startChatGateway(t, killed, "")
	t.Cleanup(client.CloseIdleConnections)
	if a := streamUntil(t, client, "GET", kg.url+"/v1/rooms/2.wait/files/x", nil, "piece 1", killed.server.Stop); a.err == nil {
		t.Errorf("the server is killed: want the answer cut, found %+v", a)
	}
}

// errCut stands for whatever a client says of an answer that is not whole.
var errCut = errors.New("cut")

// Messages go out one by one: each is there before the next is made.
func TestStreamIsFlushed(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for version, client := range versions(t) {
		for _, form := range []string{"application/json", "application/x-ndjson", "text/event-stream"} {
			t.Run(version+"/"+form, func(t *testing.T) {
				r, w := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/v1/rooms/x:talk", r)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", form)
				req.Header.Set("Content-Type", "application/x-ndjson")
				type result struct {
					resp *http.Response
					err  error
				}
				answered := make(chan result, 1)
				go func() {
					resp, err := client.Do(req) //nolint:bodyclose // closed below
					answered <- result{resp, err}
				}()
				if _, err := io.WriteString(w, `{"text":"one"}`+"\n"); err != nil {
					t.Fatal(err)
				}
				a := <-answered
				if a.err != nil {
					t.Fatal(a.err)
				}
				defer a.resp.Body.Close()
				got := ""
				read := func(want string) {
					t.Helper()
					buf := make([]byte, 1000)
					for !strings.Contains(got, want) {
						n, err := a.resp.Body.Read(buf)
						if got += string(buf[:n]); err != nil {
							t.Fatalf("want %q, found %q %v", want, got, err)
						}
					}
				}
				read(`"text":"one"`)
				if _, err := io.WriteString(w, `{"text":"two"}`+"\n"); err != nil {
					t.Fatal(err)
				}
				read(`"text":"two"`)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				rest, err := io.ReadAll(a.resp.Body)
				if s := (streamed{a.resp.StatusCode, nil, got + string(rest), err}); !s.whole(form) {
					t.Errorf("found %+v", s)
				}
			})
		}
	}
}

// HEAD gets the head and no more, however long the stream.
func TestStreamHead(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for version, client := range versions(t) {
		a := stream(t, client, "HEAD", g.url+"/v1/rooms/flood/messages", nil, "Accept", "text/event-stream")
		if a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" || a.err != nil {
			t.Errorf("%s: found %+v", version, a)
		}
	}
	b.ended(t)
}
