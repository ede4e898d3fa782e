package rpc

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Every character: those of ASCII fold as the standard library has it, and no other folds at all.
func TestFold(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		s := "aZ" + string(r)
		want := "az" + string(r)
		if r < utf8.RuneSelf {
			want = strings.ToLower(s)
		}
		if got := Lower(s); got != want {
			t.Fatalf("Lower(%q): want %q, found %q", s, want, got)
		}
	}
	for a := range 256 {
		for b := range 256 {
			x, y := []byte{byte(a)}, []byte{byte(b)}
			want := a == b
			if a < utf8.RuneSelf && b < utf8.RuneSelf {
				want = strings.EqualFold(string(x), string(y))
			}
			if EqualFold(x, y) != want || EqualFold(string(x), y) != want || EqualFold(x, string(y)) != want {
				t.Fatalf("EqualFold(%q, %q): want %v", x, y, want)
			}
		}
	}
	for _, tc := range []struct{ a, b string }{
		{"k", "\u212a"}, {"s", "\u017f"}, {"i", "\u0130"}, {"i", "\u0131"}, {"\u00e9", "\u00c9"}, {"", "a"}, {"ab", "a"},
	} {
		if EqualFold(tc.a, tc.b) || EqualFold(tc.b, tc.a) {
			t.Errorf("%q and %q are taken for the same", tc.a, tc.b)
		}
	}
	if !EqualFold("Transfer-Encoding", "tRANSFER-eNCODING") {
		t.Error("case of ASCII is told apart")
	}
}

func TestFoldAllocs(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = Lower("content-type") }); n != 0 {
		t.Errorf("a name in lower case costs %v allocations", n)
	}
	v := []byte("Chunked")
	if n := testing.AllocsPerRun(100, func() { _ = EqualFold(v, "chunked") }); n != 0 {
		t.Errorf("comparing costs %v allocations", n)
	}
}
