package expr

import (
	"net/url"
	"strings"
	"testing"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// However a path is encoded, expressions see one: conditions what routes see, texts what can stand in a header.
func TestPathHasOneForm(t *testing.T) {
	c, _ := callOf(t, &echov1.Values{})
	decides, err := Bool("request.path == path['want']")
	if err != nil {
		t.Fatal(err)
	}
	text, err := Text("request.path")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ sent, seen, written string }{
		{"/v1/echo/x", "/v1/echo/x", "/v1/echo/x"},
		{"/v1/%65cho/%78", "/v1/echo/x", "/v1/echo/x"},
		{"/%76%31/echo/x", "/v1/echo/x", "/v1/echo/x"},
		{"/a%2fb/c", "/a%2Fb/c", "/a%2Fb/c"},
		{"/caf%c3%a9", "/café", "/caf%C3%A9"},
		{"/café", "/café", "/caf%C3%A9"},
		{"/a%20b:%63%3a%40", "/a b:c:@", "/a%20b:c:@"},
		{"/a\"|%7C", "/a\"||", "/a%22%7C%7C"},
		{"/a%", "/a%", "/a%25"},
		{"/a%4", "/a%4", "/a%254"},
		{"/a%zz%4Z", "/a%zz%4Z", "/a%25zz%254Z"},
		{"", "", ""},
	} {
		c.HTTP.Path, c.Params = tc.sent, variables2{"want": tc.seen}
		if ok, err := decides.Bool(t.Context(), c, nil); !ok || err != nil {
			t.Errorf("%s: a condition sees %q, want %q", tc.sent, path(tc.sent, true), tc.seen)
		}
		if got, err := text.Text(t.Context(), c, nil); got != tc.written || err != nil {
			t.Errorf("%s: text is %q, want %q", tc.sent, got, tc.written)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/v1/echo", "/%65%2F%2f", "/é%zz%", "/a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		written := path(sent, false)
		if again := path(written, false); again != written {
			t.Errorf("%q is written %q and then %q", sent, written, again)
		}
		want, err := url.PathUnescape(sent)
		if err != nil {
			return
		}
		if got, err := url.PathUnescape(written); got != want || err != nil {
			t.Errorf("%q is written %q, which reads %q, want %q", sent, written, got, want)
		}
		if seen := path(sent, true); strings.ReplaceAll(seen, "%2F", "/") != strings.ReplaceAll(want, "%2F", "/") {
			t.Errorf("%q is seen as %q, want %q", sent, seen, want)
		}
	})
}
