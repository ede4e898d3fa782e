package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

func TestAnswersInPieces(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		large := strings.Repeat("x", 100_000)
		var step atomic.Int32
		_, address := u.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
			must := func(err error) {
				if err != nil {
					t.Error(err)
				}
			}
			must(x.WriteHead(200, fields("content-type", "text/plain", "trailer", "x-sum")))
			must(x.Write([]byte("one ")))
			must(x.Flush())
			for step.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			must(x.Write(nil))
			must(x.Write([]byte("two ")))
			must(x.Write([]byte(large)))
			must(x.End(fields("x-sum", "1", "content-length", "5", "x-evil", "a\r\nb")))
			if x.Respond(200, nil, nil) != nil || x.WriteHead(200, nil) == nil || x.Write(nil) == nil {
				t.Error("want one answer and no more")
			}
		}))
		c := u.dial(t, address)
		for range 2 {
			step.Store(0)
			c.send(get + "TE: trailers\r\n\r\n")
			line := make([]byte, 0, 1000)
			for !strings.HasSuffix(string(line), "one \r\n") { // has come before the rest was written
				b, err := c.r.ReadByte()
				if err != nil {
					t.Fatal(err)
				}
				line = append(line, b)
			}
			if !strings.Contains(string(line), "\r\nTransfer-Encoding: chunked\r\n") || !strings.Contains(string(line), "\r\nTrailer: x-sum\r\n") || !strings.HasSuffix(string(line), "\r\n\r\n4\r\none \r\n") {
				t.Errorf("found %q", line)
			}
			step.Store(1)
			end := fmt.Sprintf("4\r\ntwo \r\n%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n", len(large), large)
			rest := make([]byte, len(end))
			if _, err := io.ReadFull(c.r, rest); err != nil || string(rest) != end {
				t.Errorf("found %.200q %v", rest, err)
			}
		}
		// Without TE no trailers, for HEAD no body, and for HTTP/1.0 no chunks.
		c.send(get + "\r\n")
		if resp, body := c.answer("GET"); body != "one two "+large || len(resp.Trailer) != 0 || resp.Header.Get("Trailer") != "" {
			t.Errorf("found %v, %d bytes", resp.Trailer, len(body))
		}
		c.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		if resp, body := c.answer("HEAD"); body != "" || resp.TransferEncoding == nil {
			t.Errorf("HEAD: found %v %q", resp, body)
		}
		if resp, body := c.answer("GET"); body != "one two "+large || !resp.Close || resp.TransferEncoding != nil {
			t.Errorf("HTTP/1.0: found %v, %d bytes", resp, len(body))
		}
	})
}

func TestAbort(t *testing.T) {
	for _, end := range []string{"abort", "leave"} {
		_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
			_ = x.WriteHead(200, nil)
			_ = x.Write([]byte("half"))
			_ = x.Flush()
			if end == "abort" {
				x.Abort()
			}
		}))
		for _, version := range []string{"1.0", "1.1"} {
			c := setup{}.dial(t, address)
			c.send("GET / HTTP/" + version + "\r\nHost: x\r\n\r\n")
			if raw, err := io.ReadAll(c.r); err == nil && (version == "1.0" || strings.HasSuffix(string(raw), "0\r\n\r\n")) {
				t.Errorf("%s, %s: want the answer seen to be cut, found %q", end, version, raw)
			}
		}
	}
}

func TestReadsWhileWriting(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
			lines := make(chan string)
			go func() {
				defer close(lines)
				buf := make([]byte, 100)
				for {
					n, err := x.Read(buf)
					if n > 0 {
						lines <- string(buf[:n])
					}
					if err != nil {
						return
					}
				}
			}()
			for l := range lines {
				_ = x.Write([]byte("<" + l + ">"))
				_ = x.Flush()
			}
			_ = x.End(nil)
		}))
		c := u.dial(t, address)
		for range 2 {
			c.send(post + "Transfer-Encoding: chunked\r\n\r\n")
			if line, err := c.r.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
				t.Fatalf("found %q %v", line, err)
			}
			for line := ""; line != "\r\n"; {
				line, _ = c.r.ReadString('\n')
			}
			for _, word := range []string{"one", "two"} {
				c.send(fmt.Sprintf("%x\r\n%s\r\n", len(word), word))
				want := fmt.Sprintf("%x\r\n<%s>\r\n", len(word)+2, word)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
					t.Fatalf("found %q %v", got, err)
				}
			}
			c.send("0\r\n\r\n")
			got := make([]byte, 5)
			if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "0\r\n\r\n" {
				t.Fatalf("found %q %v", got, err)
			}
		}
	})
}

func TestStopRead(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
			read := make(chan error)
			go func() {
				_, err := io.ReadAll(x)
				read <- err
			}()
			if x.HTTP.Path == "/wait" {
				time.Sleep(20 * time.Millisecond)
			}
			x.StopRead()
			if err := <-read; !errors.Is(err, context.Canceled) || ctx.Err() != nil {
				t.Errorf("want the reading alone to end, found %v and %v", err, ctx.Err())
			}
			if _, err := x.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
				t.Errorf("later: found %v", err)
			}
			_ = x.Write([]byte("end"))
			_ = x.End(nil)
		}))
		for i := range 60 {
			path := "/"
			if i%10 == 0 {
				path = "/wait"
			}
			c := u.dial(t, address)
			c.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
			if body := c.body("POST"); body != "end" {
				t.Errorf("found %q", body)
			}
			c.Close()
		}
	})
}

func TestMisuse(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		e := x.Engine().(interface {
			wire.Engine
			wire.Streamer
		})
		if e.Flush() == nil || e.End(nil) == nil || e.Write(nil) == nil {
			t.Error("before the answer: want errors")
		}
		if n, err := e.Read(nil); n != 0 || err != nil {
			t.Errorf("no room: found %d %v", n, err)
		}
		for range 2 {
			if _, err := io.ReadAll(x); err != nil {
				t.Error(err)
			}
		}
		if err := e.WriteHead(200, fields("date", "today")); err != nil {
			t.Error(err)
		}
		if e.WriteHead(200, nil) == nil || e.Respond(200, nil, nil) == nil {
			t.Error("a second answer: want errors")
		}
		if err := errors.Join(e.Flush(), e.Flush(), e.End(nil)); err != nil {
			t.Error(err)
		}
		if e.End(nil) == nil || e.Flush() == nil {
			t.Error("after the answer: want errors")
		}
	}))
	want := "HTTP/1.1 200 OK\r\nDate: today\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	if a := raw(t, address, post+"Connection: close\r\nContent-Length: 1\r\n\r\na"); a != want {
		t.Errorf("found %q", a)
	}
}

func TestEndOfBodyBehindTheAnswer(t *testing.T) {
	for name, respond := range map[string]func(x *wire.Exchange) error{
		"whole": func(x *wire.Exchange) error { return x.Respond(200, nil, []byte("ok")) },
		"in pieces": func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ok")), x.End(nil))
		},
		"stopped": func(x *wire.Exchange) error {
			read := make(chan struct{})
			go func() {
				defer close(read)
				var b [1]byte
				if _, err := x.Read(b[:]); !errors.Is(err, context.Canceled) {
					t.Errorf("found %v", err)
				}
			}()
			x.StopRead()
			<-read
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ok")), x.End(nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
				if _, err := io.ReadFull(x, make([]byte, 3)); err != nil {
					t.Error(err)
				}
				if err := respond(x); err != nil {
					t.Error(err)
				}
			}))
			c := setup{}.dial(t, address)
			for range 3 {
				c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
				if resp, body := c.answer("POST"); body != "ok" || resp.Close {
					t.Fatalf("found %v %q", resp, body)
				}
				c.send("0\r\n\r\n")
			}
		})
	}
}

// The answer may begin at the moment when the request turns out to be malformed, in another goroutine.
func TestAnswerBeginsWhileBodyBreaks(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		done := make(chan error)
		go func() {
			_, err := io.ReadAll(readerOf{x})
			done <- err
		}()
		if err := x.WriteHead(200, nil); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("want the body refused")
		}
		_ = x.End(nil) // the client may have gone
	}))
	for range 20 {
		c := setup{}.dial(t, address)
		c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n")
		c.answer("POST")
		if n, err := c.r.ReadByte(); err == nil {
			t.Fatalf("want the connection closed, found 0x%02x", n)
		}
	}
}

type readerOf struct{ x *wire.Exchange }

func (r readerOf) Read(p []byte) (int, error) { return r.x.Read(p) }
