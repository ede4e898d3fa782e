package rpcadapters

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// stood is a call's metadata as it is sent by a protocol with names and values of any text, after plugins have had it.
func stood(c *rpc.Call) (all []string) {
	speller := c.Spelled.Speller()
	for i := range c.Header {
		name, text, _ := speller.Next(&c.Header[i])
		all = append(all, name+"="+text)
	}
	for _, s := range c.Spelled {
		if s.As.Key == "" {
			all = append(all, s.Name+"="+s.Text)
		}
	}
	return all
}

// TestSpelled: names and values go on as they came; what plugins did to the list of metadata wins.
func TestSpelled(t *testing.T) {
	came := []string{"first=0", "UserId=42", "name=你好", "User-Id=a%b", "userid=43", "blob-bin=AAE=", "raw-bin=no base64!", "a/b=odd", "X-Consumer-Name=forged", "Cookie=c", " x=1", "last=\x00"}
	for _, c := range []struct {
		name   string
		change func(h *rpc.Metadata)
		want   string
	}{
		{"nothing", func(*rpc.Metadata) {}, "first=0|UserId=42|name=你好|User-Id=a%b|userid=43|blob-bin=AAE=|raw-bin=no base64!|last=\x00|a/b=odd"},
		{"removed", func(h *rpc.Metadata) { h.Del("userid"); h.Del("name"); h.Del("last") }, "first=0|User-Id=a%b|blob-bin=AAE=|raw-bin=no base64!|a/b=odd"},
		{"all removed", func(h *rpc.Metadata) { *h = nil }, "a/b=odd"},
		{"set", func(h *rpc.Metadata) { h.Set("userid", "7"); h.Set("name", "n") }, "first=0|User-Id=a%b|blob-bin=AAE=|raw-bin=no base64!|last=\x00|userid=7|name=n|a/b=odd"},
		{"set to what it was", func(h *rpc.Metadata) { h.Set("user-id", "a%b") }, "first=0|UserId=42|name=你好|userid=43|blob-bin=AAE=|raw-bin=no base64!|last=\x00|user-id=a%b|a/b=odd"},
		{"changed in place", func(h *rpc.Metadata) { (*h)[1].Value = "1" }, "first=0|userid=1|name=你好|User-Id=a%b|userid=43|blob-bin=AAE=|raw-bin=no base64!|last=\x00|a/b=odd"},
		{"renamed", func(h *rpc.Metadata) { (*h)[2].Key = "who" }, "first=0|UserId=42|who=%E4%BD%A0%E5%A5%BD|User-Id=a%b|userid=43|blob-bin=AAE=|raw-bin=no base64!|last=\x00|a/b=odd"},
		{"put before", func(h *rpc.Metadata) { *h = slices.Insert(*h, 0, rpc.Pair{Key: "new", Value: "1"}) }, "new=1|first=0|UserId=42|name=你好|User-Id=a%b|userid=43|blob-bin=AAE=|raw-bin=no base64!|last=\x00|a/b=odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var call rpc.Call
			for _, pair := range came {
				name, text, _ := strings.Cut(pair, "=")
				call.Header, call.Spelled = AppendSpelled(call.Header, call.Spelled, name, text)
			}
			c.change(&call.Header)
			clone := call.Clone()
			clear(call.Spelled)
			if got := strings.Join(stood(clone), "|"); got != c.want {
				t.Error(cmp.Diff(c.want, got))
			}
			Plain(clone)
			for _, p := range clone.Header {
				if !strings.HasSuffix(p.Key, "-bin") && !Printable(p.Value) || p.Key == "raw-bin" || p.Key == "last" || p.Key == "name" && p.Value != "n" {
					t.Errorf("%s=%s goes to who cannot have it", p.Key, p.Value)
				}
			}
		})
	}
}

// TestSpelledNothing: of what metadata has as it stood nothing is kept.
func TestSpelledNothing(t *testing.T) {
	var call rpc.Call
	call.Header = make(rpc.Metadata, 0, 8)
	if got := testing.AllocsPerRun(100, func() {
		call.Header = call.Header[:0]
		for _, name := range [...]string{"user-id", "x-request-id", "a.b_c"} {
			call.Header, call.Spelled = AppendSpelled(call.Header, call.Spelled, name, "some value of it")
		}
	}); got != 0 || len(call.Header) != 3 || call.Spelled != nil {
		t.Errorf("%v allocations, %v, %v", got, call.Header, call.Spelled)
	}
}

// TestSpelledLinear: many names cost no more than one look at each, however many were removed.
func TestSpelledLinear(t *testing.T) {
	const n = 200_000
	var call rpc.Call
	for i := range n {
		call.Header, call.Spelled = AppendSpelled(call.Header, call.Spelled, fmt.Sprint("K", i, "-", i%2), "v")
	}
	call.Header = slices.DeleteFunc(call.Header, func(p rpc.Pair) bool { return strings.HasSuffix(p.Key, "-1") })
	if got := stood(&call); len(got) != n/2 || got[n/2-1] != fmt.Sprint("K", n-2, "-0=v") {
		t.Errorf("%d pairs, the last %s", len(got), got[len(got)-1])
	}
}

// TestSpelling: a list of names gives keys their spelling.
func TestSpelling(t *testing.T) {
	s, bad := NewSpelling([]string{"UserId", "X-App_Key"})
	if bad != -1 || s.Of("userid", "x") != "UserId" || s.Of("x-app_key", "x") != "X-App_Key" || s.Of("other", "Other") != "Other" {
		t.Errorf("%+v, %d", s, bad)
	}
	for _, list := range [][]string{{"a", "A"}, {"a", "b c"}, {"a", "*"}, {"a", ""}} {
		if _, bad := NewSpelling(list); bad != 1 {
			t.Errorf("%q: %d", list, bad)
		}
	}
}
