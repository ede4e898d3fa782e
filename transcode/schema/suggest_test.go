package schema_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestNearest(t *testing.T) {
	for _, tt := range []struct {
		got        string
		candidates []string
		want       string
	}{
		{"rate_limt", []string{"jwt", "rate_limit"}, "rate_limit"},
		{"ratelimit", []string{"rate_limit"}, "rate_limit"},
		{"RateLimit", []string{"rate_limit"}, "rate_limit"},
		{"tiemout", []string{"timeout"}, "timeout"},
		{"adress", []string{"address", "addresses"}, "address"},
		{"nmae", []string{"game", "name"}, "name"},
		{"ab", []string{"ac"}, ""},
		{"abc", []string{"abd"}, "abd"},
		{"abc", []string{"xyz", ""}, ""},
		{"name", []string{"name"}, ""},
		{"", []string{"a"}, ""},
		{"names", nil, ""},
		{strings.Repeat("a", 65), []string{strings.Repeat("a", 64)}, ""},
		{"aaaa", []string{strings.Repeat("a", 65)}, ""},
	} {
		if got := schema.Nearest(tt.got, tt.candidates); got != tt.want {
			t.Errorf("nearest to %q in %q is %q, want %q", tt.got, tt.candidates, got, tt.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	if got := schema.DidYouMean("rate_limt", []string{"rate_limit"}); got != `; did you mean "rate_limit"?` {
		t.Errorf("got %q", got)
	}
	if got := schema.DidYouMean("x", []string{"rate_limit"}); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
