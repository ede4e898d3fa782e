package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// formPart is a field or a file of a form.
type formPart struct{ name, file, typ, content string }

func form(t testing.TB, parts ...formPart) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		d := `form-data; name="` + p.name + `"`
		if p.file != "" {
			d += `; filename="` + p.file + `"`
		}
		h.Set("Content-Disposition", d)
		if p.typ != "" {
			h.Set("Content-Type", p.typ)
		}
		pw, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(pw, p.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:8]
}

// Forms with files become the messages of a client stream, with what their fields say.
func TestUploadForms(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "defaults: {max_body: 200000}\n")
	large := strings.Repeat("0123456789abcdef", 50_000) // four times the limit of one message
	const path = "/v1/rooms/r/files"
	for _, tc := range []struct {
		name, query string
		parts       []formPart
		status      int
		want        string
	}{
		{"a file", "", []formPart{{"f", "a.txt", "text/plain", "hello"}}, 200, `"files":["r/a.txt text/plain 5 ` + digest("hello") + `"]`},
		{"of no type", "", []formPart{{"f", "a", "", "hello"}}, 200, `"files":["r/a application/octet-stream 5 ` + digest("hello") + `"]`},
		{
			"fields and two files", "",
			[]formPart{{"labels[color]", "", "", "blue & green"}, {"f", "a", "a/a", "1"}, {"f", "b", "b/b", "22"}},
			200,
			`"files":["r/a a/a color=blue & green 1 ` + digest("1") + `","r/b b/b color=blue & green 2 ` + digest("22") + `"]`,
		},
		{"an empty file", "", []formPart{{"f", "a", "a/a", ""}}, 200, `{"messages":"1","files":["r/a a/a 0 ` + digest("") + `"]}`},
		{"a large one in pieces", "", []formPart{{"f", "a", "a/a", large}}, 200, `{"messages":"13","bytes":"800000","files":["r/a a/a 800000 ` + digest(large) + `"]}`},
		{"of just two pieces", "", []formPart{{"f", "a", "a/a", large[:2*65536]}}, 200, `{"messages":"2",`},
		{"the field names the file", "", []formPart{{"filename", "", "", "mine"}, {"f", "a", "a/a", "1"}}, 200, `r/mine a/a`},
		{"the query names it", "?filename=theirs", []formPart{{"f", "a", "a/a", "1"}}, 200, `r/theirs a/a`},
		{"boundaries within", "", []formPart{{"f", "a", "a/a", "\r\n--\r\n--x\r\n-"}}, 200, ` 12 ` + digest("\r\n--\r\n--x\r\n-")},
		{"no file", "", []formPart{{"filename", "", "", "x"}}, 400, `the form has no file`},
		{"an unknown field", "", []formPart{{"filenmae", "", "", "x"}, {"f", "a", "a/a", "1"}}, 400, `did you mean`},
		{"a field of the path", "", []formPart{{"room", "", "", "x"}, {"f", "a", "a/a", "1"}}, 400, `room`},
		{"a field behind a file", "", []formPart{{"f", "a", "a/a", "1"}, {"filename", "", "", "x"}}, 400, `stands behind a file`},
		{"a field without a name", "", []formPart{{"", "", "", "x"}}, 400, `has no name`},
		{"a large field", "", []formPart{{"filename", "", "", large}, {"f", "a", "a/a", "1"}}, 413, `BODY_TOO_LARGE`},
		{"a large head", "", []formPart{{"f", strings.Repeat("x", 100_000), "a/a", "1"}}, 400, `larger than 32768 bytes`},
		{"many fields", "", append(slicesRepeat(formPart{"labels[color]", "", "", "x"}, 1001), formPart{"f", "a", "a/a", "1"}), 400, `more than 1000 fields`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, typ := form(t, tc.parts...)
			a := g.call("POST", path+tc.query, body, "Content-Type", typ)
			if a.status != tc.status || !strings.Contains(a.body, tc.want) {
				t.Errorf("want %d with %s, found %d %s", tc.status, tc.want, a.status, a.body)
			}
		})
	}
	t.Run("what is no form", func(t *testing.T) {
		good, typ := form(t, formPart{"f", "a", "a/a", "hello"})
		for name, c := range map[string]struct{ body, typ string }{
			"no boundary":         {good, "multipart/form-data"},
			"an empty boundary":   {good, `multipart/form-data; boundary=""`},
			"a long boundary":     {good, "multipart/form-data; boundary=" + strings.Repeat("x", 71)},
			"nothing":             {"", typ},
			"no part":             {strings.Repeat("hello\r\n", 20_000), typ},
			"cut in the content":  {good[:strings.Index(good, "hello")+2], typ},
			"cut in the head":     {good[:100], typ},
			"cut in the boundary": {good[:len(good)-6], typ},
		} {
			if a := g.call("POST", path, c.body, "Content-Type", c.typ); a.status != 400 || !strings.Contains(a.body, "INVALID_REQUEST") {
				t.Errorf("%s: found %d %s", name, a.status, a.body)
			}
		}
		b.ended(t)
	})
	t.Run("a raw body", func(t *testing.T) {
		a := g.call("POST", path+"?filename=x", large, "Content-Type", "image/x")
		if a.status != 200 || !strings.Contains(a.body, `"files":["r/x image/x 800000 `+digest(large)+`"]`) {
			t.Errorf("found %d %s", a.status, a.body)
		}
		if a := g.call("POST", path, "", "Content-Type", "image/x"); a.status != 200 || !strings.Contains(a.body, `"files":["r/ image/x 0 `) {
			t.Errorf("found %d %s", a.status, a.body)
		}
	})
}

func slicesRepeat(p formPart, n int) []formPart {
	out := make([]formPart, n)
	for i := range out {
		out[i] = p
	}
	return out
}

// zeros is so many bytes.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// A file of any size goes through in constant memory, as a form and as it is.
func TestUploadTakesConstantMemory(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for version, client := range versions(t) {
		for _, typ := range []string{"multipart/form-data; boundary=b", "application/octet-stream"} {
			t.Run(version+"/"+typ, func(t *testing.T) {
				size := int64(32 << 20)
				if full() || version == "HTTP/1.1" && strings.HasPrefix(typ, "multipart") && !testing.Short() && !raceEnabled {
					size = 256 << 20
				}
				var body io.Reader = &zeros{size}
				if strings.HasPrefix(typ, "multipart") {
					body = io.MultiReader(strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n"), body, strings.NewReader("\r\n--b--\r\n"))
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/v1/rooms/r/files", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", typ)
				most, stop := watchHeap()
				start := time.Now()
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				raw, err := io.ReadAll(resp.Body)
				grown := most()
				stop()
				if err != nil || resp.StatusCode != 200 || !strings.Contains(string(raw), fmt.Sprintf(`"bytes":"%d"`, size)) {
					t.Fatalf("found %d %s %v", resp.StatusCode, raw, err)
				}
				t.Logf("%d MiB in %s: the heap of client, gateway and service grew by %d KiB at most", size>>20, time.Since(start).Round(time.Millisecond), grown>>10)
				if grown > 48<<20 {
					t.Errorf("want the memory bounded, it grew by %d bytes", grown)
				}
			})
		}
	}
}

// watchHeap watches how much more is in use than now. What is garbage is collected early meanwhile, for it would be counted.
func watchHeap() (most func() int64, stop func()) {
	percent := debug.SetGCPercent(20)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := int64(m.HeapInuse) //nolint:gosec // far from the limit
	var top atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				top.Store(max(top.Load(), int64(m.HeapInuse)-before)) //nolint:gosec // as above
			}
		}
	}()
	return top.Load, func() {
		cancel()
		<-done
		debug.SetGCPercent(percent)
	}
}

// A request list that breaks off, or that the client gives up, is no shorter one: the service's call is cancelled.
func TestRequestLists(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "defaults: {max_body: 1000}\n")
	const path = "/v1/rooms/0/messages:import"
	two := `{"messages":"2","bytes":"3"}`
	for _, tc := range []struct {
		name, typ, body string
		status          int
		want            string
	}{
		{"an array", "application/json", `[{"text":"a"},{"text":"bc"}]`, 200, two},
		{"lines", "application/x-ndjson", "{\"text\":\"a\"}\n{\"text\":\"bc\"}\n", 200, two},
		{"lines by another name", "application/jsonl; charset=utf-8", "{\"text\":\"a\"}\n{\"text\":\"bc\"}", 200, two},
		{"lines said to be JSON", "application/json", "{\"text\":\"a\"}\n{\"text\":\"bc\"}", 200, two},
		{"none", "application/json", "", 200, `{}`},
		{"an empty array", "application/json", "[]", 200, `{}`},
		{"more than one message's limit in all", "application/json", "[" + strings.Repeat(`{"text":"0123456789"},`, 999) + `{"text":"x"}]`, 200, `{"messages":"1000","bytes":"9991"}`},
		{"one above the limit", "application/json", `[{"text":"` + strings.Repeat("x", 1000) + `"}]`, 413, "BODY_TOO_LARGE"},
		{"a bad second", "application/json", `[{"text":"a"},{"txet":"b"}]`, 400, "request 2 of the stream: "},
		{"an array that is not closed", "application/json", `[{"text":"a"}`, 400, "is not closed"},
		{"a text that is cut", "application/x-ndjson", `{"text":"a"}` + "\n" + `{"text":`, 400, "request 2"},
		{"something else", "application/xml", `<a/>`, 415, "UNSUPPORTED_MEDIA_TYPE"},
		{"the service refuses", "application/json", `[{"text":"fail 7"},{"text":"b"}]`, 403, denied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.call("POST", path, tc.body, "Content-Type", tc.typ)
			if a.status != tc.status || !strings.Contains(a.body, tc.want) {
				t.Errorf("want %d with %s, found %d %s", tc.status, tc.want, a.status, a.body)
			}
		})
	}
	for version, client := range versions(t) {
		t.Run(version+"/the client leaves", func(t *testing.T) {
			before, got := b.cancelled.Load(), b.got.Load()
			r, w := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+path, r)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				resp, err := client.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				done <- err
			}()
			if _, err := io.WriteString(w, `{"text":"a"}`+"\n"); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the service to have the message", func() bool { return b.got.Load() == got+1 })
			cancel()
			_ = w.CloseWithError(io.ErrClosedPipe)
			if err := <-done; err == nil {
				t.Error("want the client's own error")
			}
			waitFor(t, "the service's call to be cancelled", func() bool { return b.cancelled.Load() == before+1 })
		})
		t.Run(version+"/slowly", func(t *testing.T) {
			r, w := io.Pipe()
			go func() {
				for i := range 3 {
					time.Sleep(50 * time.Millisecond) // a client that takes its time
					_, _ = fmt.Fprintf(w, "{\"text\":\"%d\"}\n", i)
				}
				_ = w.Close()
			}()
			a := stream(t, client, "POST", g.url+path, r)
			if d := cmp.Diff(`{"messages":"3","bytes":"3"}`, a.body); d != "" {
				t.Error(d)
			}
		})
	}
	b.ended(t)
}
