package expr

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// What fails over calls of a method is found before there is one: surely, perhaps, or not at all.
func TestSuits(t *testing.T) {
	find := func(name string) *schema.Method {
		m, ok := mirror(t).Method("/demo.echo.v1.Mirror/" + name)
		if !ok {
			t.Fatal("no method " + name)
		}
		return m
	}
	call, other := find("Update"), find("Show") // other takes a Values
	stream := *other
	stream.Kind = schema.ServerStream
	for _, tc := range []struct {
		text string
		m    *schema.Method
		want string // "": nothing speaks against it; "?": it depends on the call
	}{
		{"request.method == 'GET'", call, ""},
		{"message.item.text == 'a'", call, ""},
		{"message.txet == 'a'", other, `demo.echo.v1.Values has no field "txet"`},
		{"message.txet == 'a'", other, `did you mean "text"?`},
		{"message.text == 'a'", call, "demo.echo.v1.Mirror/Update takes"},
		{"message.small_number == 1", other, ""},
		{"message.smallNumber == 1", other, ""},
		{"message.nested.nested.text == 'a'", other, ""},
		{"message.nested.nope == 'a'", other, "has no field"},
		{"message['nested']['nope'] == 'a'", other, "has no field"},
		{"message.labels.tier == 'a'", other, ""}, // a map's keys are its own
		{"message.tags.exists(t, t == message.nope)", other, "?has no field"},
		{"message.tags.exists(message, message == 'a')", other, ""},
		{"has(message.nope) && message.nope == 'a'", other, ""},
		{"has(message.nope) || message.nope == 'a'", other, "has no field"},
		{"!has(message.nope) || message.nope == 'a'", other, ""},
		{"has(message.nope.a)", other, "has no field"},
		{"rpc.method == 'Call' && message.nope == 'a'", other, ""},
		{"message.nope == 'a' && rpc.method == 'Call'", other, ""},
		{"rpc.method in ['Call', 'Get'] && message.nope == 'a'", other, ""},
		{"rpc.method in ['Call', 'Show'] && message.nope == 'a'", other, "has no field"},
		{"rpc.service != 'demo.echo.v1.Mirror' && message.nope == 'a'", other, ""},
		{"rpc.method != 'Call' ? message.nope == 'a' : true", other, "has no field"},
		{"rpc.method == 'Call' ? message.nope == 'a' : true", other, ""},
		{"request.method == 'GET' ? message.nope == 'a' : true", other, "?has no field"},
		{"request.method == 'GET' ? message.nope == 'a' : message.nope == 'b'", other, "has no field"},
		{"request.method == 'GET' && message.nope == 'a'", other, "?has no field"},
		{"request.method == 'GET' || message.nope == 'a'", other, "?has no field"},
		{"size(message.nope) > 3", other, "has no field"},
		{"message.nope.startsWith('a')", other, "has no field"},
		{"[message.nope] == ['a']", other, "has no field"},
		{"{'a': message.nope} == {'a': 'b'}", other, "has no field"},
		{"message.text == 'a'", &stream, "is the request of a unary call"},
		{"rpc.method == 'Update' && message.text == 'a'", &stream, ""},
		{"has(message.text) && message.text == 'a'", &stream, ""},
		{strings.Repeat("(true == ", 40) + "(message.nope == 'a')" + strings.Repeat(")", 40), other, "has no field"},
	} {
		p, err := Bool(tc.text)
		if err != nil {
			t.Fatalf("%s: %s", tc.text, err)
		}
		got, sure := p.Suits(tc.m), !strings.HasPrefix(tc.want, "?")
		switch want := strings.TrimPrefix(tc.want, "?"); {
		case want == "" && got != nil:
			t.Errorf("%s over %s: found %q", tc.text, tc.m.Name, got.Text)
		case want != "" && (got == nil || got.Always != sure || !strings.Contains(got.Text, want)):
			t.Errorf("%s over %s: want %q (always: %v), found %+v", tc.text, tc.m.Name, want, sure, got)
		}
	}
}

// What is told of the types of a message's fields is what evaluation finds: each of a table of operands with each other under each
// operator fails exactly where it was told to.
func TestSuitsIsWhatEvaluationFinds(t *testing.T) {
	c, _ := callOf(t, values())
	fields := []string{"message.text", "message.small_number", "message.natural", "message.flag", "message.color", "message.data", "message.ratio"}
	operands := append([]string{"message.nested.text", "1", "2u", "1.5", "true", "b'a'"}, fields[:4]...)
	forms := []string{
		"%a == %b", "%a != %b", "%a < %b", "%a >= %b", "%a + %b == %a", "%a - %b == %a", "%a * %b == %a", "%a / %b == %a", "%a % %b == %a", "%a in [%b]",
		"%a.startsWith(%b)", "%a.contains(%b)", "size(%a) == %b", "%a && %b", "%b || %a", "!%a", "%a ? true : %b == %b", "%a", "(%a < %b) == true", "%a == %a ? %b : true",
	}
	sure, found := 0, 0
	for _, form := range forms {
		for _, a := range fields {
			for i, b := range operands {
				if i > 0 && !strings.Contains(form, "%b") {
					break
				}
				text := strings.NewReplacer("%a", a, "%b", b).Replace(form)
				p, err := Bool(text)
				if err != nil || !p.ReadsMessage() {
					continue // CEL itself refuses it
				}
				f := p.Suits(c.Method)
				_, err = p.Bool(t.Context(), c, nil)
				switch {
				case f != nil && f.Always && err == nil:
					t.Errorf("%s: told that it fails: %s", text, f.Text)
				case f != nil && f.Always:
					sure++
				case f == nil && err != nil && strings.Contains(err.Error(), "no such overload"):
					t.Errorf("%s: not told that it fails: %s", text, err)
				}
				found++
			}
		}
	}
	if sure < 300 || found < sure+300 {
		t.Errorf("of %d expressions %d surely fail", found, sure)
	}
}
