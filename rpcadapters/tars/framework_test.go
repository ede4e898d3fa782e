package tars

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestFrameworkStatus: what of the framework's status goes on, for whom, and that the message type says so.
func TestFrameworkStatus(t *testing.T) {
	s := kit(t)
	m := kitMethod(t, s, "hello")
	var got []string
	addr := servantOf(t, func(r *Request) *Response {
		got = []string{fmt.Sprintf("%#x", r.MessageType)}
		for it := r.Status.Read(); it.Next(); {
			got = append(got, fmt.Sprintf("%s=%s", it.Key, it.Value))
		}
		if r.Context.Len() != 0 {
			t.Errorf("found %d entries in the context", r.Context.Len())
		}
		return &Response{Body: tarswire.AppendString(nil, 0, "hi")}
	})
	all := rpc.Metadata{
		{Key: "tars-status-status_trace_key", Value: "t"},
		{Key: "tars-status-status_dyed_key", Value: "d"},
		{Key: "tars-status-status_grid_key", Value: "g"},
		{Key: "tars-status-status_setname_value", Value: "a.b.c"},
		{Key: "tars-status-status_result_code", Value: "0"},
		{Key: "status_trace_key", Value: "no"},
		{Key: "tars-status-status_trace_key", Value: "a second one"},
	}
	for _, c := range []struct {
		name     string
		o        *tarsadapterv1.Options
		protocol string
		want     []string
	}{
		{"nobody's", &tarsadapterv1.Options{}, "rest", []string{"0x0"}},
		{"a caller over TARS", &tarsadapterv1.Options{}, "tars", []string{"0x100", "STATUS_TRACE_KEY=t"}},
		{"with a list of context", &tarsadapterv1.Options{RequestContext: []string{"x-*"}}, "tars", []string{"0x100", "STATUS_TRACE_KEY=t"}},
		{"listed", &tarsadapterv1.Options{FrameworkStatus: []string{"STATUS_DYED_KEY", "STATUS_GRID_KEY"}}, "grpc", []string{"0x6", "STATUS_DYED_KEY=d", "STATUS_GRID_KEY=g"}},
		{"listed, over TARS", &tarsadapterv1.Options{FrameworkStatus: []string{"STATUS_DYED_KEY"}}, "tars", []string{"0x104", "STATUS_TRACE_KEY=t", "STATUS_DYED_KEY=d"}},
		{
			"the configuration's own comes first",
			&tarsadapterv1.Options{FrameworkStatus: []string{"STATUS_SETNAME_VALUE"}, Status: map[string]string{"STATUS_SETNAME_VALUE": "x.y.z", "STATUS_DYED_KEY": "mine", "other": "1"}},
			"rest",
			[]string{"0x84", "STATUS_DYED_KEY=mine", "STATUS_SETNAME_VALUE=x.y.z", "other=1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Servant = servant
			call := &rpc.Call{Header: all, Protocol: c.protocol, Method: m, Plan: bind(t, m, c.o)}
			var out rpc.Reply
			defer out.Reset()
			if err := dial(t, addr, c.o).Unary(t.Context(), call, &rpc.Message{Data: message(t, m.Input, `{"name":"x"}`)}, &out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}

	// From a client of the listener.
	var header rpc.Metadata
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		header = append(header, c.Header...)
		return message(t, c.Method.Output, `{"ret":"x"}`), nil
	})
	_, at := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	exchange(t, connect(t, at), kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) {
		r.MessageType = 0x104
		for _, k := range []string{"STATUS_TRACE_KEY", "STATUS_DYED_KEY", "STATUS_GRID_KEY", "STATUS_SETNAME_VALUE", "STATUS_RESULT_CODE", "STATUS_RESULT_DESC", "STATUS_MINE", "mine"} {
			r.Status.Add(k, "1")
			r.Context.Add(k, "2")
		}
	}))
	want := rpc.Metadata{
		{Key: "mine", Value: "2"},
		{Key: "tars-status-status_trace_key", Value: "1"},
		{Key: "tars-status-status_dyed_key", Value: "1"},
		{Key: "tars-status-mine", Value: "1"},
		{Key: "x-request-id", Value: "id-1"},
	}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Error(diff)
	}
}

// TestWhoseFault: what a code means depends on who is behind the times, and on who wrote the body.
func TestWhoseFault(t *testing.T) {
	var ret int32
	addr := servantOf(t, func(*Request) *Response { return &Response{Ret: ret, Body: []byte{}} })
	natural, _ := plain(t).Method("/plain.v1.Plain/Do")
	for _, c := range []struct {
		name       string
		ret        int32
		m          *schema.Method
		body       string
		discovered bool
		code       codes.Code
		status     int
		executed   bool
	}{
		{"a servant that is configured", retNoServant, kitMethod(t, kit(t), "empty"), "", false, codes.Unimplemented, 501, false},
		{"a servant that is registered", retNoServant, kitMethod(t, kit(t), "empty"), "", true, codes.Unavailable, 503, false},
		{"a body that is translated", retServerDecode, natural, "tars", false, codes.Internal, 502, true},
		{"JSON that is translated", retServerDecode, kitMethod(t, kit(t), "empty"), "json", false, codes.Internal, 502, true},
		{"JSON without IDL", retServerDecode, natural, "json", false, codes.InvalidArgument, 400, true},
	} {
		ret = c.ret
		o := &tarsadapterv1.Options{Body: c.body}
		tr := dial(t, addr, o)
		tr.discovered = c.discovered
		_, _, err := invoke(t.Context(), t, tr, c.m, o, nil, `{}`)
		e, ok := errors.AsType[*rpc.Error](err)
		if !ok || e.Code != c.code || e.Status != c.status || e.Executed != c.executed || e.Native != c.ret {
			t.Errorf("%s: found %+v", c.name, err)
		}
	}
}
