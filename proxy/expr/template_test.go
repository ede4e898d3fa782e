package expr

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func templateCall() *rpc.Call {
	return &rpc.Call{
		Route: "orders", ID: "id-1", HTTP: &rpc.HTTP{Path: "/v1/orders/7"}, Params: variables2{"id": "7"},
		Header:   rpc.Metadata{{Key: "x-a", Value: "{{ route }}"}, {Key: "x-b", Value: "b"}},
		Consumer: &rpc.Consumer{Name: "shop", Labels: map[string]string{"tier": "gold"}},
		Claims:   rpc.Claims{"sub": "ann", "n": float64(3)},
	}
}

func TestTemplate(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"plain }} text", "plain }} text"},
		{"{{ route }}", "orders"},
		{"{{route}}/{{path['id']}}", "orders/7"},
		{"a {{ metadata['x-a'] }} b", "a {{ route }} b"}, // what comes in is not read again
		{"{{ consumer.name }}:{{ consumer.labels['tier'] }}:{{ claims.sub }}:{{ claims.n }}", "shop:gold:ann:3"},
		{"{{ '}}' + \"}}\\\"}}\" }}!", "}}}}\"}}!"},
		{"{{ {'a': {'b': route}}['a']['b'] }}", "orders"},
		{"{{ {'a': {'b': route}}.a.b}}}", "orders}"},
		{"{{ 'x' in metadata ? 'yes' : 'no' }}{{ 1 + 1 }}", "no2"},
		{"{ {{ '{{' }} }", "{ {{ }"},
	} {
		tm, err := ParseTemplate(tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		got, err := tm.Text(t.Context(), templateCall(), nil)
		if err != nil || got != tc.want || tm.String() != tc.text {
			t.Errorf("%q: want %q, found %q, %v", tc.text, tc.want, got, err)
		}
		if text, constant := tm.Constant(); constant != !strings.Contains(tc.text, "{{") || constant && text != tc.text || !strings.HasPrefix(got, tm.Prefix()) {
			t.Errorf("%q: constant %v %q, prefix %q", tc.text, constant, text, tm.Prefix())
		}
	}
}

func TestTemplateFaults(t *testing.T) {
	for text, want := range map[string]string{
		"ab{{ route":            "column 3: {{ without }}",
		"{{ 'a }} b":            "column 1: {{ without }}",
		"{{ {'a': 1 }}":         "column 1: {{ without }}",
		"a {{ }}":               "column 3: nothing between {{ and }}",
		"{{ rout }}":            `"rout": column 1 of the expression: undeclared reference to 'rout'`,
		"{{ metadata }}{{ x }}": `"x": column 1 of the expression`,
	} {
		if _, err := ParseTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, found %v", text, want, err)
		}
	}
	tm, err := ParseTemplate("a{{ claims.missing }}")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tm.Text(t.Context(), templateCall(), nil); err == nil || got != "" {
		t.Errorf("want an error and nothing else, found %q", got)
	}
}

func TestTemplateAsks(t *testing.T) {
	for text, want := range map[string][2]bool{
		"x": {}, "{{ route }}": {}, "{{ answer.code }}": {true, false}, "a{{ claims.sub }}": {false, true},
		"{{ route }}{{ consumer.name }}": {false, true}, "{{ consumer.labels['x'] }}": {false, true}, "{{ metadata['claims'] }}": {},
	} {
		tm, err := ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{tm.AfterAnswer(), tm.Identity()}; got != want {
			t.Errorf("%q: want %v, found %v", text, want, got)
		}
	}
}

// Whatever a caller sends is in the text as it is: it neither ends nor begins an expression.
func FuzzTemplate(f *testing.F) {
	f.Add("a {{ metadata['x'] }} b", "v")
	f.Add("{{ metadata['x'] }}", "{{ route }}")
	f.Add("{{ {'}}': 1} }}", "}}")
	f.Add("{{ '\\'}}' }}", "'")
	f.Add("{{{{}}}}", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 200 {
			return
		}
		c := templateCall()
		c.Header = rpc.Metadata{{Key: "x", Value: value}}
		if tm, err := ParseTemplate(text); err == nil {
			if _, constant := tm.Constant(); constant && strings.Contains(text, "{{") {
				t.Errorf("%q is constant", text)
			}
			_, _ = tm.Text(t.Context(), c, nil) // whatever comes out: no panic
		}
		tm, err := ParseTemplate("<{{ metadata['x'] }}>")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tm.Text(t.Context(), c, nil); err != nil || got != "<"+value+">" {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	})
}
