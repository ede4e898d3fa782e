package openinghours

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
)

func TestHours(t *testing.T) {
	env := plugintest.Env(t)
	for clock, open := range map[string]bool{"07:59": false, "08:00": true, "18:29": true, "18:30": false} {
		now, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		env.Now = func() time.Time { return now }
		next := &plugintest.Next{}
		err = plugintest.New(t, Kind, env, `{from: "08:00", until: "18:30"}`).Wrap(next).Handle(t.Context(), plugintest.Call("GET", "/"))
		if !open {
			plugintest.Refused(t, err, codes.Unavailable, 0, "CLOSED")
		}
		if (err == nil) != open || (next.Calls == 1) != open {
			t.Errorf("at %s: %v after %d calls", clock, err, next.Calls)
		}
	}
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "no time", Config: `{from: "08:00"}`, Path: "until", Want: `found ""`, Fix: "hours and minutes"},
		{Name: "backwards", Config: `{from: "18:30", until: "08:00"}`, Path: "until", Want: "after 18:30", Fix: "after 18:30"},
	})
}

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }
