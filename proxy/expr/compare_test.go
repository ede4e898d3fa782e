package expr

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The texts that variables are held against are found, wherever they stand.
func TestComparisons(t *testing.T) {
	for text, want := range map[string][]Comparison{
		"consumer.name == 'shop'":                                 {{"consumer.name", "", "shop"}},
		"'shop' != consumer.name || request.method == 'GET'":      {{"consumer.name", "", "shop"}, {"request.method", "", "GET"}},
		"!(consumer.name in ['a', 'b'])":                          {{"consumer.name", "", "a"}, {"consumer.name", "", "b"}},
		"'admins' in consumer.groups":                             {{"consumer.groups", "", "admins"}},
		"consumer.groups.exists(g, g == 'admins' || g in ['x'])":  {{"consumer.groups", "", "admins"}, {"consumer.groups", "", "x"}},
		"['a', 'b'].exists(g, g in consumer.groups)":              {{"consumer.groups", "", "a"}, {"consumer.groups", "", "b"}},
		"consumer.labels['tier'] == 'gold'":                       {{"consumer.labels", "tier", "gold"}, {"consumer.labels", "tier", ""}},
		"consumer.labels.tier in ['gold']":                        {{"consumer.labels", "tier", "gold"}, {"consumer.labels", "tier", ""}},
		"has(consumer.labels.tier) || 'x' in consumer.labels":     {{"consumer.labels", "tier", ""}, {"consumer.labels", "x", ""}},
		"request.headers['X-A'].startsWith('b')":                  {{"request.headers", "X-A", ""}},
		"size(metadata['x-a']) > 2 ? rpc.method == 'A' : false":   {{"metadata", "x-a", ""}, {"rpc.method", "", "A"}},
		"consumer.name == ''":                                     nil,
		"message.text == 'shop' && claims.sub == 'x'":             nil,
		"message.tags.exists(route, route == 'a')":                nil, // its own
		"consumer.groups.exists(g, [1].exists(g, g == 1))":        nil,
		"{'a': rpc.service == 'b'}['a']":                          {{"rpc.service", "", "b"}},
		"message.tags.exists(t, t == consumer.name)":              nil,
		"[consumer.name == 'a'] == [true] && route == 'a' + 'b'":  {{"consumer.name", "", "a"}},
		"request.headers[consumer.labels.by] == consumer.name":    {{"consumer.labels", "by", ""}},
		"consumer.labels.exists(k, k == 'tier')":                  {{"consumer.labels", "tier", ""}},
		"rpc.service.startsWith('a.') && rpc.service.size() == 3": nil,
	} {
		p, err := Bool(text)
		if err != nil {
			t.Fatalf("%s: %s", text, err)
		}
		if diff := cmp.Diff(want, p.Comparisons(), cmp.Transformer("", func(l []Comparison) []Comparison { return append([]Comparison{}, l...) })); diff != "" {
			t.Errorf("%s (-want +found):\n%s", text, diff)
		}
	}
	p, err := ParseTemplate("a {{ consumer.labels.tier }}-{{ route == 'x' }}")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Comparison{{"consumer.labels", "tier", ""}, {"route", "", "x"}}, p.Comparisons()); diff != "" {
		t.Error(diff)
	}
}

// Whether a condition holds is known where it goes by the method, the service or the protocol.
func TestHolds(t *testing.T) {
	m, ok := mirror(t).Method("/demo.echo.v1.Mirror/Show")
	if !ok {
		t.Fatal("no method")
	}
	for _, tc := range []struct {
		text, protocol string
		holds, known   bool
	}{
		{"true", "", true, true},
		{"rpc.method == 'Show'", "", true, true},
		{"rpc.method in ['Get', 'Put']", "", false, true},
		{"rpc.service != 'demo.echo.v1.Mirror' && request.path == '/'", "", false, true},
		{"request.path == '/'", "", false, false},
		{"request.protocol != 'tars'", "", false, false},
		{"request.protocol != 'tars'", "tars", false, true},
		{"request.protocol == 'tars'", "trpc", false, true},
		{"request.method != ''", "tars", false, true},
		{"request.method == '' && request.path == '/demo.echo.v1.Mirror/Show'", "tars", true, true},
		{"has(message.nope)", "", false, true},
		{"message.nope == 'a'", "", false, false},
		{"consumer.name == 'a'", "tars", false, false},
	} {
		p, err := Bool(tc.text)
		if err != nil {
			t.Fatalf("%s: %s", tc.text, err)
		}
		if holds, known := p.Holds(m, tc.protocol); holds != tc.holds || known != tc.known {
			t.Errorf("%s over %q: holds %v, known %v", tc.text, tc.protocol, holds, known)
		}
	}
}
