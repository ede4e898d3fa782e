package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// HTTPCheck says what is asked by HTTP and what is wanted. Zero fields take the defaults.
type HTTPCheck struct {
	Method   string        // GET; HEAD and OPTIONS are the others
	Path     string        // with its query, as it is sent; "/"
	Host     string        // the address
	Statuses []StatusRange // any of them is a pass; 200 to 299
	// Contains is what the body must contain within its first 64 KiB. Empty: the body does not matter, but it must end or be
	// longer than that.
	Contains string
}

// StatusRange is from one status to another, both included.
type StatusRange struct{ From, To int }

// String is the range as it is written in a configuration.
func (r StatusRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return strconv.Itoa(r.From) + "-" + strconv.Itoa(r.To)
}

const (
	maxBody        = 64 << 10
	maxInformation = 8 // answers of 1xx before the one that counts
)

// Fault tells what is wrong with a check, nil if nothing.
func (c HTTPCheck) Fault() error {
	switch c.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return fmt.Errorf("health: want the method GET, HEAD or OPTIONS, found %s", quoted(c.Method))
	}
	if c.Contains != "" && c.Method == http.MethodHead {
		return errors.New("health: the answer to HEAD has no body that could contain anything: use GET")
	}
	if c.Path != "" && (c.Path[0] != '/' || strings.ContainsFunc(c.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' })) {
		return fmt.Errorf("health: want a path that begins with / and has what is not printable ASCII percent-encoded, found %s", quoted(c.Path))
	}
	if !httpguts.ValidHostHeader(c.Host) {
		return fmt.Errorf("health: want a name for the host, found %s", quoted(c.Host))
	}
	for _, r := range c.Statuses {
		if r.From < 200 || r.To > 599 || r.From > r.To {
			return fmt.Errorf("health: want statuses from 200 to 599, the lower first, found %v", r)
		}
	}
	return nil
}

// HTTP makes a prober that asks over HTTP/1.1, with t over TLS. The address is host:port. One connection is kept between
// probes where the server keeps it too; no goroutine belongs to it. Redirects are not followed.
func HTTP(address string, c HTTPCheck, t *tls.Config) (Prober, error) {
	if err := addressFault(address); err != nil {
		return nil, err
	}
	if err := c.Fault(); err != nil {
		return nil, err
	}
	if c.Method == "" {
		c.Method = http.MethodGet
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Host == "" {
		c.Host = address
	}
	if len(c.Statuses) == 0 {
		c.Statuses = []StatusRange{{200, 299}}
	}
	h := &httpProber{address: address, check: c, tls: forHost(t, address), method: &http.Request{Method: c.Method}}
	if h.tls != nil {
		h.tls.NextProtos = []string{"http/1.1"}
	}
	h.request = []byte(c.Method + " " + c.Path + " HTTP/1.1\r\nHost: " + c.Host + "\r\nUser-Agent: " + userAgent + "\r\nAccept: */*\r\n\r\n")
	return h, nil
}

type httpProber struct {
	address string
	check   HTTPCheck
	tls     *tls.Config
	request []byte
	method  *http.Request // tells how long an answer is
	conn    net.Conn      // kept from the last probe; nil: none
}

// readers are lent for the length of a probe.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// Probe asks once.
func (h *httpProber) Probe(ctx context.Context) error {
	if h.conn != nil {
		// The server may have closed a kept connection, or be about to; that says nothing.
		err, stale := h.ask(ctx, h.conn)
		if !stale {
			return err
		}
	}
	conn, at, err := connect(ctx, h.address, h.tls)
	if err != nil {
		return reason(ctx, at, err)
	}
	h.conn = conn
	err, _ = h.ask(ctx, conn)
	return err
}

// ask sends the request and reads the answer. The connection is closed and forgotten where it cannot be used again. stale
// tells that it ended before there was any answer.
func (h *httpProber) ask(ctx context.Context, conn net.Conn) (err error, stale bool) { //nolint:revive // the verdict comes first: stale explains it
	release := guard(ctx, conn)
	keep := false
	defer func() {
		release()
		if !keep {
			h.Close()
		}
	}()
	broken := func(err error) error { return reason(ctx, asking, err) }
	if _, err := conn.Write(h.request); err != nil {
		return broken(err), ctx.Err() == nil && !isTimeout(err)
	}
	limited := &io.LimitedReader{R: conn, N: maxHead}
	br, _ := readers.Get().(*bufio.Reader)
	br.Reset(limited)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	if _, err := br.Peek(1); err != nil {
		return broken(err), ctx.Err() == nil && !isTimeout(err)
	}
	var answer *http.Response
	for range maxInformation {
		if answer, err = http.ReadResponse(br, h.method); err != nil {
			if limited.N <= 0 {
				return &failure{fmt.Sprintf("the head of the answer is longer than %d bytes", maxHead), err}, false
			}
			var fault net.Error
			if errors.As(err, &fault) || errors.Is(err, io.ErrUnexpectedEOF) {
				return broken(err), false
			}
			return &failure{"what answered does not speak HTTP/1: " + bounded(err.Error()), err}, false
		}
		if answer.ProtoMajor != 1 {
			return errors.New("what answered does not speak HTTP/1 but " + quoted(answer.Proto)), false
		}
		if answer.StatusCode >= 200 || answer.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	limited.N = 2 * maxBody // the body with what frames it
	var body bytes.Buffer
	to := io.Discard
	if h.check.Contains != "" {
		to = &body
	}
	n, err := io.Copy(to, io.LimitReader(answer.Body, maxBody+1))
	whole := n <= maxBody && err == nil
	keep = whole && !answer.Close && br.Buffered() == 0 && answer.ProtoAtLeast(1, 1)
	if !slices.ContainsFunc(h.check.Statuses, func(r StatusRange) bool { return r.From <= answer.StatusCode && answer.StatusCode <= r.To }) {
		return fmt.Errorf("the answer has status %d; wanted is %s", answer.StatusCode, oneOf(h.check.Statuses)), false
	}
	if err != nil && limited.N > 0 {
		return broken(err), false
	}
	if !bytes.Contains(body.Bytes(), []byte(h.check.Contains)) {
		return fmt.Errorf("the answer has status %d, but its body does not contain %s", answer.StatusCode, quoted(h.check.Contains)), false
	}
	return nil, false
}

func isTimeout(err error) bool {
	var fault net.Error
	return errors.As(err, &fault) && fault.Timeout()
}

func oneOf(all []StatusRange) string {
	var b strings.Builder
	for i, r := range all {
		switch {
		case i > 0 && i == len(all)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(r.String())
	}
	return b.String()
}

// Close closes the connection that is kept.
func (h *httpProber) Close() {
	if h.conn != nil {
		_ = h.conn.Close()
		h.conn = nil
	}
}
