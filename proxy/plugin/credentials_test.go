package plugin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestShown(t *testing.T) {
	c := &rpc.Call{HTTP: &rpc.HTTP{
		Query: "a=1&k%65y=x+y%2b&b&key=&%zz=1&key=%q",
		Header: rpc.Metadata{
			{Key: "x-api-key", Value: "k"}, {Key: "cookie", Value: `a=b; token="t=1"; tokens=2`}, {Key: "cookie", Value: "token=u; =v; w; \u2000token=forged; token\u00a0=forged; to\u212aen=forged"},
		},
	}}
	type shown struct {
		value string
		n     int
	}
	of := func(v string, n int) shown { return shown{v, n} }
	for _, tc := range []struct {
		name      string
		got, want shown
	}{
		{"header", of(Shown(c, "x-api-key")), shown{"k", 1}},
		{"twice", of(Shown(c, "cookie")), shown{`a=b; token="t=1"; tokens=2`, 2}},
		{"not there", of(Shown(c, "x-api")), shown{}},
		{"query", of(QueryShown(c, "key")), shown{"x y+", 3}},
		{"query without value", of(QueryShown(c, "b")), shown{"", 1}},
		{"not in the query", of(QueryShown(c, "c")), shown{}},
		{"cookie", of(CookieShown(c, "token")), shown{"t=1", 2}},
		{"not among cookies", of(CookieShown(c, "toke")), shown{}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: found %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	bare := &rpc.Call{Header: rpc.Metadata{{Key: "x-api-key", Value: "m"}}}
	if v, n := Shown(bare, "x-api-key"); v != "m" || n != 1 {
		t.Errorf("without HTTP: found %q %d", v, n)
	}
	if _, n := QueryShown(bare, "key"); n != 0 {
		t.Error("a query without HTTP")
	}
}

func TestScheme(t *testing.T) {
	for _, tc := range []struct {
		value, scheme, want string
		ok                  bool
	}{
		{"Bearer abc", "bearer", "abc", true},
		{"bEARER   abc", "bearer", "abc", true},
		{"Bearer ", "bearer", "", true},
		{"Bearer", "bearer", "", false},
		{"BearerX abc", "bearer", "", false},
		{"Basic abc", "bearer", "", false},
		{"Ba\u017fic abc", "basic", "", false},
		{"To\u212aen abc", "token", "", false},
		{"", "bearer", "", false},
	} {
		if got, ok := Scheme(tc.value, tc.scheme); got != tc.want || ok != tc.ok {
			t.Errorf("%q: found %q %v", tc.value, got, ok)
		}
	}
}

func TestDiscard(t *testing.T) {
	for _, tc := range []struct{ query, want string }{
		{"key=1", ""},
		{"a=1&k%65y=2&b=3&key", "a=1&b=3"},
		{"a=%zz&keys=1", "a=%zz&keys=1"},
		{"", ""},
	} {
		c := &rpc.Call{HTTP: &rpc.HTTP{Query: tc.query}}
		DiscardQuery(c, "key")
		if c.HTTP.Query != tc.want {
			t.Errorf("query %q: found %q, want %q", tc.query, c.HTTP.Query, tc.want)
		}
	}
	c := &rpc.Call{Header: rpc.Metadata{
		{Key: "cookie", Value: "a=1; token=2; b=3; \u2000token=forged"},
		{Key: "x_user-ID", Value: "forged"},
		{Key: "cookie", Value: "token=2"},
		{Key: "x-user", Value: "1"},
		{Key: "x-user-id", Value: "forged"},
		{Key: "cookie", Value: "tokens=2"},
	}}
	DiscardCookie(c, "token")
	DiscardHeaders(c, []string{"x-user-id"})
	want := rpc.Metadata{{Key: "cookie", Value: "a=1; b=3"}, {Key: "x-user", Value: "1"}, {Key: "cookie", Value: "tokens=2"}}
	if d := cmp.Diff(want, c.Header); d != "" {
		t.Error(d)
	}
}

func TestDiscardScheme(t *testing.T) {
	c := &rpc.Call{}
	for _, v := range []string{"Bearer a", "Basic x", "bearer", " \tBEARER\ta", "Bearer,a", "Bearers a", "Bearer-2 a", "", ",Bearer a", "Token Bearer"} {
		c.Header.Add("authorization", v)
	}
	c.Header.Add("x", "Bearer a")
	DiscardScheme(c, "bearer")
	var left []string
	for _, p := range c.Header {
		left = append(left, p.Value)
	}
	if d := cmp.Diff([]string{"Basic x", "Bearers a", "Bearer-2 a", "", "Token Bearer", "Bearer a"}, left); d != "" {
		t.Error(d)
	}
}

// FuzzQuery: a parameter is found as net/url finds it, and taken out with nothing else.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"key=1", "a=1&k%65y=x+y%2b&key", "key&&=&key=%zz", "%6bey=%41&b;key=2", "KEY=1&key=\x00"} {
		f.Add(q, "key")
	}
	f.Fuzz(func(t *testing.T, query, name string) {
		if name == "" {
			return
		}
		c := &rpc.Call{HTTP: &rpc.HTTP{Query: query}}
		value, n := QueryShown(c, name)
		if all, err := url.ParseQuery(query); err == nil && query != "" {
			if n != len(all[name]) || n > 0 && value != all[name][0] {
				t.Errorf("found %q %d times, net/url %q", value, n, all[name])
			}
		}
		DiscardQuery(c, name)
		if v, n := QueryShown(c, name); n > 0 {
			t.Errorf("%q is still there", v)
		}
		if n == 0 && c.HTTP.Query != query {
			t.Errorf("nothing was there, and %q became %q", query, c.HTTP.Query)
		}
	})
}

// FuzzCookie: what is taken out, net/http does not find any more; what it finds is shown.
func FuzzCookie(f *testing.F) {
	for _, v := range []string{"s=1", "a=b; s=\"1\"; c", "s =1;\ts=2", "s", "=s; s==; ss=1", "S=1; s=a b", "\r\ns\n=\r1", "\u2000s=1; s\u00a0=2"} {
		f.Add(v, "s")
	}
	f.Fuzz(func(t *testing.T, value, name string) {
		if name == "" {
			return
		}
		c := &rpc.Call{Header: rpc.Metadata{{Key: "cookie", Value: value}}}
		_, shown := CookieShown(c, name)
		found := func() (n int) {
			r := &http.Request{Header: http.Header{}}
			for _, p := range c.Header {
				r.Header.Add("Cookie", p.Value)
			}
			for _, k := range r.CookiesNamed(name) {
				if k.Value != "" {
					n++
				}
			}
			return n
		}
		if n := found(); n > shown {
			t.Errorf("%d cookies are shown, net/http finds %d", shown, n)
		}
		DiscardCookie(c, name)
		if n := found(); n > 0 {
			t.Errorf("net/http finds %d cookies in %q", n, c.Header)
		}
		if _, n := CookieShown(c, name); n > 0 {
			t.Errorf("%d cookies are shown in %q", n, c.Header)
		}
	})
}

// way is a way of authentication by one header.
type way struct{ header, consumer string }

func (w way) Wrap(next rpc.Handler) rpc.Handler { return Authenticated(w, next) }

func (w way) Authenticate(_ context.Context, c *rpc.Call) error {
	switch v, n := Shown(c, w.header); {
	case n == 0:
		return Missing(w.header)
	case v != "right":
		return Invalid(w.header, nil)
	}
	c.Consumer = &rpc.Consumer{Name: w.consumer}
	return nil
}

func (w way) Discard(c *rpc.Call) { c.Header.Del(w.header) }

// What one way has not checked does not go along with what another has.
func TestAnyOfDiscards(t *testing.T) {
	a := AnyOf(way{"a", "alice"}, way{"b", "bob"})
	for _, tc := range []struct {
		header   rpc.Metadata
		consumer string
		want     rpc.Metadata
	}{
		{rpc.Metadata{{Key: "a", Value: "right"}, {Key: "b", Value: "forged"}}, "alice", rpc.Metadata{{Key: "a", Value: "right"}}},
		{rpc.Metadata{{Key: "a", Value: "forged"}, {Key: "b", Value: "right"}}, "bob", rpc.Metadata{{Key: "b", Value: "right"}}},
		{rpc.Metadata{{Key: "a", Value: "forged"}}, "", rpc.Metadata{{Key: "a", Value: "forged"}}},
	} {
		c := &rpc.Call{Header: tc.header}
		err := a.Authenticate(t.Context(), c)
		if (err == nil) != (tc.consumer != "") || c.ConsumerName() != tc.consumer {
			t.Errorf("%v: found %q, %v", tc.header, c.ConsumerName(), err)
		}
		if d := cmp.Diff(tc.want, c.Header); d != "" {
			t.Error(d)
		}
	}
}

// unsure is a way of authentication that cannot tell.
type unsure struct{ way }

func (unsure) Authenticate(context.Context, *rpc.Call) error {
	return rpc.Refuse(codes.Unavailable, "KEYS_UNAVAILABLE", "the keys are not available")
}

// One that cannot tell does not let in, and does not keep out whom another knows; where nobody does, that is what is said.
func TestAnyOfUnsure(t *testing.T) {
	a := AnyOf(unsure{}, way{"b", "bob"})
	c := &rpc.Call{Header: rpc.Metadata{{Key: "b", Value: "right"}}}
	if err := a.Authenticate(t.Context(), c); err != nil || c.ConsumerName() != "bob" {
		t.Errorf("found %q, %v", c.ConsumerName(), err)
	}
	for _, h := range []rpc.Metadata{nil, {{Key: "b", Value: "wrong"}}} {
		err := a.Authenticate(t.Context(), &rpc.Call{Header: h})
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Unavailable {
			t.Errorf("%v: found %v", h, err)
		}
	}
}

// The groups of whom an outer plugin found do not stay with another consumer.
func TestGroupsAreOfOneConsumer(t *testing.T) {
	h := Authenticated(way{"a", "alice"}, handlerFunc(func(_ context.Context, c *rpc.Call) error {
		if c.Header.Has(GroupsHeader) || c.Header.Get(ConsumerHeader) != "alice" {
			t.Errorf("found %v", c.Header)
		}
		return nil
	}))
	c := &rpc.Call{HTTP: &rpc.HTTP{Header: rpc.Metadata{{Key: "a", Value: "right"}}}}
	c.Header = rpc.Metadata{{Key: GroupsHeader, Value: "admins"}, {Key: ConsumerHeader, Value: "root"}}
	if err := h.Handle(t.Context(), c); err != nil {
		t.Error(err)
	}
}

type handlerFunc func(ctx context.Context, c *rpc.Call) error

func (f handlerFunc) Handle(ctx context.Context, c *rpc.Call) error { return f(ctx, c) }
