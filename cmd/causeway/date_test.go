package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// An answer says when it was made, also the first after a time without any connection.
func TestDateAfterSilence(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	time.Sleep(2100 * time.Millisecond) // the field has whole seconds: this is what is tested
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!h2)
		transport.Protocols.SetUnencryptedHTTP2(h2)
		before := time.Now().Truncate(time.Second)
		resp, err := (&http.Client{Transport: transport}).Get(g.url + "/v1/echo/x")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // nothing of it is read
		transport.CloseIdleConnections()
		if at, err := http.ParseTime(resp.Header.Get("Date")); err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("HTTP/2 %v: the answer is of %s, and was asked for at %s", h2, resp.Header.Get("Date"), before)
		}
	}
}
