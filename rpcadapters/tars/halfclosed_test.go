package tars

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// TestInletHalfClosed: a client that has said all it has to say gets its answers, as it does from servants of TarsGo.
func TestInletHalfClosed(t *testing.T) {
	for _, version := range []int16{VersionTARS, VersionTUP, VersionJSON} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			halfClosed(t, version)
		})
	}
}

func halfClosed(t *testing.T, version int16) {
	t.Helper()
	s := kit(t)
	started, release := make(chan struct{}), make(chan struct{})
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		close(started)
		<-release
		return message(t, c.Method.Output, `{"ret":"done"}`), nil
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	if err := writePacket(c, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Version = version })); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(t, c); a.ID != 0 || string(a.Desc) != Reconnect || formOf(int64(a.Version)) != formOf(int64(version)) {
		t.Fatalf("want a push that finds out whether somebody is there, found %+v", a)
	}
	close(release)
	a := readAnswer(t, c)
	for a.ID == 0 {
		a = readAnswer(t, c)
	}
	if a.ID != 7 || a.Ret != 0 {
		t.Errorf("found %+v", a)
	}
	if _, err := readPacket(c); !errors.Is(err, io.EOF) {
		t.Errorf("want the end, found %v", err)
	}
	if sent, _ := d.last(1); sent.Code != 0 || sent.Err != nil {
		t.Errorf("told %+v", sent)
	}
}
