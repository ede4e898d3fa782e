package tars

import (
	"context"
	"errors"
	"strings"
	"testing"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

func TestInletOptions(t *testing.T) {
	for _, c := range []struct {
		o    *tarsadapterv1.Listener
		want string
	}{
		{&tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Service: "a.B"}}}, `servants[0].name: want a name that clients call by, like "App.Server.Obj"`},
		{&tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: "A.B.C@tcp", Service: "a.B"}}}, `servants[0].name: want a name like "App.Server.Obj", found "A.B.C@tcp"`},
		{&tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: "A.B.C"}}}, "servants[0].service: want the full name of the proto service that A.B.C leads to"},
		{&tarsadapterv1.Listener{Charset: "gkb"}, `charset: want utf8 or gbk, found "gkb"; did you mean "gbk"?`},
	} {
		if _, err := (Inlet{}).New(nil, c.o, rpcadapters.Limits{}); err == nil || err.Error() != c.want {
			t.Errorf("found %v\nwant  %s", err, c.want)
		}
	}
}

func TestInletGBK(t *testing.T) {
	s := kit(t)
	o := kitListener()
	o.Charset = "gbk"
	d := newDoor(t, s, o, func(_ context.Context, c *rpc.Call, wire []byte) ([]byte, error) {
		if got := shown(t, c.Method.Input, wire); got != `{"name":"你好"}` {
			t.Errorf("found %s", got)
		}
		return message(t, c.Method.Output, `{"ret":"世界"}`), nil
	})
	_, addr := d.open(o, rpcadapters.Limits{}, server.Options{})
	got := exchange(t, connect(t, addr), kitRequest(t, s, "hello", "", func(r *Request) { r.Body = tarswire.AppendString(nil, 1, "\xc4\xe3\xba\xc3") }))
	if want := tarswire.AppendString(nil, 0, "\xca\xc0\xbd\xe7"); string(got.Body) != string(want) {
		t.Errorf("want %x, found %d %s %x", want, got.Ret, got.Desc, got.Body)
	}
	d.handler = handler(func(context.Context, *rpc.Call, []byte) ([]byte, error) {
		return nil, &rpc.Error{Class: rpc.Business, Native: 7, Message: "世界"}
	})
	got = exchange(t, connect(t, addr), kitRequest(t, s, "hello", "", func(r *Request) { r.Body = tarswire.AppendString(nil, 1, "x") }))
	if got.Ret != 7 || string(got.Desc) != "\xca\xc0\xbd\xe7" {
		t.Errorf("found %d %x", got.Ret, got.Desc)
	}
}

// TestGBK: a servant that writes GBK.
func TestGBK(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	o := &tarsadapterv1.Options{Charset: "gbk"}
	ret := int32(0)
	addr := servantOf(t, func(r *Request) *Response {
		if string(r.Body) != string(tarswire.AppendString(nil, 1, "\xc4\xe3")) {
			t.Errorf("found %x", r.Body)
		}
		return &Response{Ret: ret, Body: tarswire.AppendString(nil, 0, "\xba\xc3"), Desc: []byte("\xca\xc0")}
	})
	tr := dial(t, addr, o)
	if _, got, err := invoke(t.Context(), t, tr, m, o, nil, `{"name":"你"}`); err != nil || got != `{"ret":"好"}` {
		t.Errorf("found %s, %v", got, err)
	}
	ret = 9
	_, _, err := invoke(t.Context(), t, tr, m, o, nil, `{"name":"你"}`)
	if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Message != "世" {
		t.Errorf("found %v", err)
	}
}

// A servant that leads to a service which no route serves is told of at load, with the name that was meant.
func TestInletServesWhatItNames(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	listener := func(service string) *tarsadapterv1.Listener {
		return &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{
			{Name: "A.B.C", Service: m.Service.Name}, {Name: "A.B.D", Service: service},
		}}
	}
	bound, err := Inlet{}.Bind(m, &tarsadapterv1.Listener{})
	if err != nil {
		t.Fatal(err)
	}
	own, _, _ := strings.Cut(bound.Names[0], "/")
	for _, good := range []string{m.Service.Name, own} {
		if err := (Inlet{}).Check(listener(good), []*schema.Method{m}); err != nil {
			t.Errorf("%s: found %v", good, err)
		}
	}
	misspelt := m.Service.Name[:len(m.Service.Name)-1]
	want := `servants[1].service: no route serves a service "` + misspelt + `"; did you mean "` + m.Service.Name + `"?`
	if err := (Inlet{}).Check(listener(misspelt), []*schema.Method{m}); err == nil || err.Error() != want {
		t.Errorf("want %s, found %v", want, err)
	}
	if err := (Inlet{}).Check(nil, nil); err != nil {
		t.Errorf("nothing is named: found %v", err)
	}
}
