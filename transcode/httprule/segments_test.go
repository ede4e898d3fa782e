package httprule

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestAppendSegments(t *testing.T) {
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/", []string{}},
		{"/a", []string{"a"}},
		{"/v1/shelves/7/books", []string{"v1", "shelves", "7", "books"}},
		{"/v1/orders/7:cancel", []string{"v1", "orders", "7:cancel"}},
		{"/a%2Fb/c%2fd", []string{"a%2Fb", "c%2fd"}},
		{"/admin;x=1", []string{"admin;x=1"}}, // a parameter is part of the segment: this is not /admin
		{"/...", []string{"..."}},
		{"/.a/..b/c..", []string{".a", "..b", "c.."}},
		{"/%2e%2e%2e", []string{"%2e%2e%2e"}},
		{"/a%20b", []string{"a%20b"}},
		{"/100%25", []string{"100%25"}},
		{"/%25zz", []string{"%25zz"}},
		{"/%25%7a1", []string{"%25%7a1"}},
		{"/%254", []string{"%254"}},
		{"/%23%3F", []string{"%23%3F"}},
		{"/caf%C3%A9/\u65e5\u672c", []string{"caf%C3%A9", "\u65e5\u672c"}},
		{"/%e6\x97%a5", []string{"%e6\x97%a5"}}, // one character, half raw
		{"/~user/!$&'()*+,;=:@|^`{}\"<>[]", []string{"~user", "!$&'()*+,;=:@|^`{}\"<>[]"}},
	} {
		got, err := AppendSegments([]string{}, c.path)
		if err != nil {
			t.Errorf("%q: %v", c.path, err)
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.path, d)
		}
	}
}

func TestAppendSegmentsRefuses(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"", `path: wanted a leading "/"`},
		{"*", `path: wanted a leading "/"`},
		{"admin", `path: wanted a leading "/"`},
		{"http://h/admin", `path: wanted a leading "/"`},
		{"%2Fadmin", `path: wanted a leading "/"`},
		{"//", `path: column 2: an empty segment`},
		{"//admin", `path: column 2: an empty segment`},
		{"/a//b", `path: column 4: an empty segment`},
		{"/a/", `path: column 4: an empty segment`},
		{"/public/../admin", `path: column 9: a ".." segment`},
		{"/public/..", `path: column 9: a ".." segment`},
		{"/./admin", `path: column 2: a "." segment`},
		{"/public/%2e%2e/admin", `path: column 9: a ".." segment`},
		{"/public/%2E./admin", `path: column 9: a ".." segment`},
		{"/public/.%2e/admin", `path: column 9: a ".." segment`},
		{"/%2e/admin", `path: column 2: a "." segment`},
		{"/public/%252e%252e/admin", `path: column 9: double percent-encoding`},
		{"/a%252Fb", `path: column 3: double percent-encoding`},
		{"/a%25%32%66b", `path: column 3: double percent-encoding`},
		{"/a%25%32fb", `path: column 3: double percent-encoding`},
		{"/a%252%66b", `path: column 3: double percent-encoding`},
		{"/a%25252F", `path: column 3: double percent-encoding`},
		{`/public\..\admin`, `path: column 8: a backslash`},
		{"/public%5c..%5Cadmin", `path: column 8: a backslash`},
		{"/a\x00b", `path: column 3: a NUL character`},
		{"/a%00b", `path: column 3: a NUL character`},
		{"/a.json%00.txt", `path: column 8: a NUL character`},
		{"/a%0d%0aX-Evil:1", `path: column 3: control character 0x0D`},
		{"/a\nb", `path: column 3: control character 0x0A`},
		{"/a\tb", `path: column 3: control character 0x09`},
		{"/a%7f", `path: column 3: control character 0x7F`},
		{"/a\x7f", `path: column 3: control character 0x7F`},
		{"/public#/../admin", `path: column 8: "#" not percent-encoded`},
		{"/a?b", `path: column 3: "?" not percent-encoded`},
		{"/a b", `path: column 3: " " not percent-encoded`},
		{"/a%", `path: column 3: bad percent-encoding "%"`},
		{"/a%2", `path: column 3: bad percent-encoding "%2"`},
		{"/a%2/b", `path: column 3: bad percent-encoding "%2"`},
		{"/a%zz", `path: column 3: bad percent-encoding "%zz"`},
		{"/%u002e%u002e", `path: column 2: bad percent-encoding "%u0"`},
		{"/%%32e", `path: column 2: bad percent-encoding "%%3"`},
		{"/%c0%ae%c0%ae/admin", `path: column 2: not UTF-8`}, // overlong dots
		{"/a%c0%afb", `path: column 3: not UTF-8`},           // overlong slash
		{"/%e0%80%af", `path: column 5: not UTF-8`},
		{"/%ed%a0%80", `path: column 5: not UTF-8`}, // half a surrogate pair
		{"/%ff", `path: column 2: not UTF-8`},
		{"/\xff", `path: column 2: not UTF-8`},
		{"/%C3", `path: column 4: not UTF-8`},
		{"/%C3/%A9", `path: column 4: not UTF-8`},
	} {
		dst := []string{"kept"}
		got, err := AppendSegments(dst, c.path)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: wanted %s, found %v", c.path, c.want, err)
		}
		if !slices.Equal(got, dst) {
			t.Errorf("%q: wanted dst as it was, found %q", c.path, got)
		}
	}
}

func TestAppendSegmentsAllocates(t *testing.T) {
	dst := make([]string, 0, 16)
	for _, path := range []string{"/", "/v1/shelves/7/books", "/v1/caf%C3%A9/a%2Fb/..x/%25"} {
		if n := testing.AllocsPerRun(100, func() { dst, _ = AppendSegments(dst[:0], path) }); n != 0 {
			t.Errorf("%s: wanted no allocation, found %v", path, n)
		}
	}
}

// naiveRefuses says by another way whether path is to be refused: split, net/url, and checks on what that decodes to.
func naiveRefuses(path string) bool {
	if path == "/" {
		return false
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return true
	}
	for seg := range strings.SplitSeq(rest, "/") {
		once, err := url.PathUnescape(seg)
		if err != nil || strings.ContainsAny(seg, "#? ") || once == "" || once == "." || once == ".." || !utf8.ValidString(once) {
			return true
		}
		for _, r := range once {
			if r == '\\' || r < utf8.RuneSelf && unicode.IsControl(r) {
				return true
			}
		}
		for i := range once {
			if once[i] == '%' && i+2 < len(once) {
				if _, err := url.PathUnescape(once[i : i+3]); err == nil {
					return true
				}
			}
		}
	}
	return false
}

func FuzzSegments(f *testing.F) {
	for _, s := range []string{
		"/", "", "//", "/a/b", "/a/", "/%2e%2E/x", "/.%2e", "/a%2Fb", "/a%252F", "/%25%32%46", "/%C3%A9", "/%c0%af", "/\xe6%97%a5", "/a\\b", "/%5c",
		"/a%00", "/#", "/?", "/ ", "/%", "/%2", "/%zz", "/%25zz", "/...", "/a:b", "/;x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segs, err := AppendSegments(nil, path)
		if refused := naiveRefuses(path); refused != (err != nil) {
			t.Fatalf("%q: wanted refused %v, found %v", path, refused, err)
		}
		if err != nil {
			return
		}
		if joined := "/" + strings.Join(segs, "/"); joined != path {
			t.Fatalf("%q: segments %q are not the path", path, segs)
		}
		for _, seg := range segs {
			want, err := url.PathUnescape(seg)
			if got := decoded(seg, reserveNone); err != nil || got != want {
				t.Errorf("%q: wanted %q decoded, found %q, %v", seg, want, got, err)
			}
			if (escapedSlash(seg) >= 0) != strings.Contains(want, "/") {
				t.Errorf("%q: encoded slash at %d", seg, escapedSlash(seg))
			}
			// What is decoded must not decode any further.
			if again, err := url.PathUnescape(want); err == nil && again != want {
				t.Errorf("%q decodes twice, to %q", seg, again)
			}
		}
	})
}
