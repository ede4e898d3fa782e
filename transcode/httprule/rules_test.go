package httprule

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// shopSchema has three services in two packages; GetItem has a rule of its own.
func shopSchema(t testing.TB) *schema.Schema {
	t.Helper()
	return newSchema(t, compileProto(t, `
		syntax = "proto3";
		package shop.v1;
		import "google/api/annotations.proto";
		service Items {
			rpc GetItem(R) returns (R) {option (google.api.http) = {get: "/proto/{id}"};}
			rpc ListItems(R) returns (R);
		}
		service Orders {rpc GetOrder(R) returns (R);}
		service ItemsAdmin {rpc Purge(R) returns (R);}
		message R {string id = 1;}
	`))
}

func selected(selector, path string) *annotations.HttpRule {
	r := rule("get", path, "")
	r.Selector = selector
	return r
}

func TestRules(t *testing.T) {
	s := shopSchema(t)
	for _, c := range []struct {
		name  string
		rules []*annotations.HttpRule
		want  map[string]string // method -> path of the rule; no entry: none
	}{
		{"none", nil, nil},
		{"one method", []*annotations.HttpRule{selected("shop.v1.Items.GetItem", "/a")}, map[string]string{"Items/GetItem": "/a"}},
		{"the last one wins", []*annotations.HttpRule{
			selected("shop.v1.Items.GetItem", "/a"), selected("shop.v1.Items.GetItem", "/b"),
		}, map[string]string{"Items/GetItem": "/b"}},
		{"a service", []*annotations.HttpRule{selected("shop.v1.Items.*", "/a")}, map[string]string{"Items/GetItem": "/a", "Items/ListItems": "/a"}},
		{"a package", []*annotations.HttpRule{selected("shop.*", "/a")}, map[string]string{
			"Items/GetItem": "/a", "Items/ListItems": "/a", "Orders/GetOrder": "/a", "ItemsAdmin/Purge": "/a",
		}},
		{"all", []*annotations.HttpRule{selected("*", "/a"), selected("shop.v1.Orders.GetOrder", "/b")}, map[string]string{
			"Items/GetItem": "/a", "Items/ListItems": "/a", "Orders/GetOrder": "/b", "ItemsAdmin/Purge": "/a",
		}},
		{"order, not how exact it is", []*annotations.HttpRule{
			selected("shop.v1.Items.GetItem", "/a"), selected("shop.v1.Items.*", "/b"), selected("shop.v1.*", "/c"), selected("shop.v1.Orders.*", "/d"),
		}, map[string]string{"Items/GetItem": "/c", "Items/ListItems": "/c", "Orders/GetOrder": "/d", "ItemsAdmin/Purge": "/c"}},
		{"a list", []*annotations.HttpRule{selected("shop.v1.Items.GetItem, shop.v1.Orders.*", "/a")}, map[string]string{"Items/GetItem": "/a", "Orders/GetOrder": "/a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewRules(&annotations.Http{Rules: c.rules})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, sv := range s.Services() {
				for _, m := range sv.Methods {
					rule := r.For(m)
					if i := r.Index(m); (i >= 0) != (rule != nil) || i >= 0 && c.rules[i] != rule {
						t.Errorf("%s: the rule is %v, its index %d", m.Name, rule, i)
					}
					if rule != nil {
						got[strings.TrimPrefix(m.Name, "/shop.v1.")] = rule.GetGet()
					}
				}
			}
			if d := cmp.Diff(c.want, got); d != "" && len(c.want)+len(got) > 0 {
				t.Errorf("(-want +got):\n%s", d)
			}
			if faults := r.Unused(s); len(faults) > 0 {
				t.Errorf("found unused: %v", faults)
			}
		})
	}
}

// TestRulesReplace: a rule outside replaces the proto's whole rule, its additional bindings with it.
func TestRulesReplace(t *testing.T) {
	m := method(t, newSchema(t, compileProto(t, libraryProto)), "/lib.v1.Library/GetBook")
	outside := also(selected("lib.v1.Library.GetBook", "/outside/{id}"), rule("get", "/also/{name}", ""))
	r, err := NewRules(&annotations.Http{Rules: []*annotations.HttpRule{outside}})
	if err != nil {
		t.Fatal(err)
	}
	bindings, err := Options{Decoding: r.Decoding()}.Compile(m, r.For(m))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{bindings[0].String(), bindings[1].String()}
	if d := cmp.Diff([]string{"GET /outside/{id} -> lib.v1.Library/GetBook", "GET /also/{name} -> lib.v1.Library/GetBook"}, got); d != "" || len(bindings) != 2 {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRulesErrors(t *testing.T) {
	for _, c := range []struct {
		selector, want string
	}{
		{"", `http.rules[1]: selector "": wanted the full name of a method, "package.Service.Method", found nothing`},
		{"a.B.C,", `http.rules[1]: selector "a.B.C,": wanted the full name of a method, "package.Service.Method", found nothing`},
		{"a.b*", `http.rules[1]: selector "a.b*": wanted "*" only as the last part of a name, "package.Service.*", found "a.b*"`},
		{"a.*.c", `http.rules[1]: selector "a.*.c": wanted "*" only as the last part of a name, "package.Service.*", found "a.*.c"`},
		{"a.**", `http.rules[1]: selector "a.**": wanted "*" only as the last part of a name, "package.Service.*", found "a.**"`},
		{".*", `http.rules[1]: selector ".*": wanted the full name of a method, "package.Service.Method", found ".*"`},
		{"/a.B/C", `http.rules[1]: selector "/a.B/C": wanted the full name of a method, "package.Service.Method", found "/a.B/C"`},
		{"a..C", `http.rules[1]: selector "a..C": wanted the full name of a method, "package.Service.Method", found "a..C"`},
		{"a.B C", `http.rules[1]: selector "a.B C": wanted the full name of a method, "package.Service.Method", found "a.B C"`},
	} {
		r, err := NewRules(&annotations.Http{Rules: []*annotations.HttpRule{selected("*", "/a"), selected(c.selector, "/b")}})
		if err == nil || r != nil || err.Error() != c.want {
			t.Errorf("%q: wanted %s\nfound %v, %v", c.selector, c.want, r, err)
			continue
		}
		if fault, ok := errors.AsType[*RuleFault](err); !ok || fault.Index != 1 || fault.Selector != c.selector {
			t.Errorf("%q: found fault %+v", c.selector, fault)
		}
	}
	_, err := NewRules(&annotations.Http{Rules: []*annotations.HttpRule{selected("", "/a"), selected("*", "/a"), selected("*b", "/b")}})
	want := `http.rules[0]: selector "": wanted the full name of a method, "package.Service.Method", found nothing
http.rules[2]: selector "*b": wanted "*" only as the last part of a name, "package.Service.*", found "*b"`
	if err == nil || err.Error() != want {
		t.Errorf("wanted %s\nfound %v", want, err)
	}
}

func TestRulesUnused(t *testing.T) {
	s := shopSchema(t)
	for _, c := range []struct{ selector, want string }{
		{"shop.v1.Items.GetItm", `http.rules[0]: selector "shop.v1.Items.GetItm": it names no method of the schema; did you mean "shop.v1.Items.GetItem"?`},
		{"shop.v1.Item.GetItem", `http.rules[0]: selector "shop.v1.Item.GetItem": it names no method of the schema; did you mean "shop.v1.Items.GetItem"?`},
		{"store.api.v2.Orders.GetOrder", `http.rules[0]: selector "store.api.v2.Orders.GetOrder": it names no method of the schema; did you mean "shop.v1.Orders.GetOrder"?`},
		{"shop.v1.Items.Frobnicate", `http.rules[0]: selector "shop.v1.Items.Frobnicate": it names no method of the schema`},
		{"shop.v1.Items", `http.rules[0]: selector "shop.v1.Items": it names no method of the schema; did you mean "shop.v1.Items.*"?`},
		{"shop.v1.Itms.*", `http.rules[0]: selector "shop.v1.Itms.*": it names no method of the schema; did you mean "shop.v1.Items.*"?`},
		{"shop.v2.*", `http.rules[0]: selector "shop.v2.*": it names no method of the schema; did you mean "shop.v1.*"?`},
		{"shop.v1.Items.GetItem.*", `http.rules[0]: selector "shop.v1.Items.GetItem.*": it names no method of the schema; did you mean "shop.v1.Items.GetItem"?`},
		{"GetItem", `http.rules[0]: selector "GetItem": it names no method of the schema`},
		{"shop.v1.Items.GetItem, shop.v1.Orders.DeleteOrders", `http.rules[0]: selector "shop.v1.Orders.DeleteOrders": it names no method of the schema`},
	} {
		r, err := NewRules(&annotations.Http{Rules: []*annotations.HttpRule{selected(c.selector, "/a")}})
		if err != nil {
			t.Fatal(err)
		}
		faults := r.Unused(s)
		if len(faults) != 1 || faults[0].Error() != c.want {
			t.Errorf("%s: wanted %s\nfound %v", c.selector, c.want, faults)
		}
	}
	// A rule that a later one stands in for is used all the same; and one schema of several is enough.
	r, err := NewRules(&annotations.Http{Rules: []*annotations.HttpRule{
		selected("shop.v1.Items.GetItem", "/a"), selected("*", "/b"), selected("lib.v1.Library.*", "/c"), selected("lib.v1.Library.Nothing", "/d"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	faults := r.Unused(s, newSchema(t, compileProto(t, libraryProto)))
	if len(faults) != 1 || faults[0].Index != 3 {
		t.Errorf("wanted the fourth rule alone, found %v", faults)
	}
}

func TestRulesDecoding(t *testing.T) {
	for flag, want := range map[bool]Decoding{false: ExceptReserved, true: ExceptSlash} {
		r, err := NewRules(&annotations.Http{FullyDecodeReservedExpansion: flag})
		if err != nil || r.Decoding() != want {
			t.Errorf("%v: wanted %v, found %v, %v", flag, want, r.Decoding(), err)
		}
	}
	if r, err := NewRules(nil); err != nil || r.For(method(t, shopSchema(t), "/shop.v1.Orders/GetOrder")) != nil {
		t.Errorf("wanted no rule of no configuration, found %v", err)
	}
}

// FuzzRules holds the look-up to its definition: of the rules in order, the last whose selector names the method.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"", "*", "shop.v1.Items.GetItem\nshop.v1.*", "shop.*\nshop.v1.Orders.GetOrder\n*\nshop.v1.Items.GetItem, shop.v1.Items.*", "a.b*", "shop.v1.Item.*\nshop.v1.Items.GetItm", ",", "shop.v1.Items.*,shop.v1.Items.*"} {
		f.Add(s)
	}
	s := shopSchema(f)
	f.Fuzz(func(t *testing.T, selectors string) {
		h := &annotations.Http{}
		for selector := range strings.SplitSeq(selectors, "\n") {
			h.Rules = append(h.Rules, selected(selector, "/a"))
		}
		r, err := NewRules(h)
		if err != nil {
			if _, ok := errors.AsType[*RuleFault](err); !ok || r != nil {
				t.Fatalf("found %v, %v", r, err)
			}
			return
		}
		used := map[string]bool{}
		for _, sv := range s.Services() {
			for _, m := range sv.Methods {
				name, want := strings.ReplaceAll(m.Name[1:], "/", "."), -1
				for i, rule := range h.Rules {
					for pattern := range strings.SplitSeq(rule.GetSelector(), ",") {
						pattern = strings.TrimSpace(pattern)
						if prefix, ok := strings.CutSuffix(pattern, "*"); name == pattern || ok && strings.HasPrefix(name, prefix) {
							want, used[pattern] = i, true
						}
					}
				}
				if got := r.Index(m); got != want {
					t.Fatalf("%q: %s: wanted rule %d, found %d", selectors, name, want, got)
				}
			}
		}
		faults := map[string]bool{}
		for _, fault := range r.Unused(s) {
			faults[fault.Selector] = true
		}
		for _, rule := range h.Rules {
			for pattern := range strings.SplitSeq(rule.GetSelector(), ",") {
				if pattern = strings.TrimSpace(pattern); used[pattern] == faults[pattern] {
					t.Fatalf("%q: %q: used %v, told as unused %v", selectors, pattern, used[pattern], faults[pattern])
				}
			}
		}
	})
}
