package jsonwire_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// numberForms are read, bare and in quotes, as every kind of number.
var numberForms = []string{
	"0", "-0", "1", "-1", "+1", "01", "-01", "00", "1.", ".5", "5", "-", "--1", "1-", "0x10", "1_000", "1,0", "one", "true", "null", "",
	"127", "128", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "8589934591", "6442450944",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
	"27670116110564327423", "99999999999999999999", "-99999999999999999999", "100000000000000000000", "184467440737095516160",
	"1e0", "1E0", "1e+0", "1e-0", "1e2", "1.5e1", "1.50e1", "0.5e1", "-2.5e3", "1e19", "1e20", "1e21", "1e-1", "10e-1", "15e-1", "150e-1", "100e-2", "105e-2", "100e-3",
	"1.0", "1.5", "-1.0", "1.00000000000000000000", "0.0", "-0.0", "-0e5", "0e99999999999", "1e99999999999", "1e", "1e+", "1e-", "1.e1", "e1", "1e1.0", "1e1e1",
	"0.1", "0.30000000000000004", "123456789012345678", "1234567890123456789", "9007199254740993", "1.7976931348623157e308", "1.7976931348623159e308", "1e309", "-1e309",
	"3.4028234663852886e38", "3.4028235677973366e38", "3.5e38", "-3.5e38", "1e39", "5e-324", "2e-324", "1e-400", "1.401298464324817e-45", "16777217", "999999999999999.9", "0.1234567890123456",
	"NaN", "nan", "Infinity", "-Infinity", "+Infinity", "inf", "-inf", " 1", "1 ", "1\t", "\u0031",
}

// firstEscaped is a string in JSON whose first character is escaped, which is read in another way.
func firstEscaped(s string) string {
	if s == "" {
		return `""`
	}
	return fmt.Sprintf(`"\u%04x%s"`, s[0], s[1:])
}

// TestNumberForms holds every form of a number, in every kind of field, to the oracle.
func TestNumberForms(t *testing.T) {
	w := theWorld(t).with(realCodec)
	scalars, known, maps := w.message(t, "test.three.Scalars"), w.message(t, "test.three.Known"), w.message(t, "test.three.Maps")
	for _, form := range numberForms {
		for _, text := range []string{form, `"` + form + `"`, firstEscaped(form)} {
			for _, kind := range []string{"Double", "Float", "Int32", "Int64", "Uint32", "Uint64", "Sint32", "Sint64", "Fixed32", "Fixed64", "Sfixed32", "Sfixed64", "Bool", "Color"} {
				w.compareJSON(t, scalars, []byte(`{"f`+kind+`":`+text+`}`), false)
				w.compareJSON(t, scalars, []byte(`{"r`+kind+`":[`+text+`,0]}`), false)
			}
			for _, kind := range []string{"Double", "Float", "Int64", "Uint64", "Int32", "Uint32", "Bool"} {
				w.compareJSON(t, known, []byte(`{"w`+kind+`":`+text+`}`), false)
			}
			w.compareJSON(t, known, []byte(`{"value":`+text+`}`), false)
			for _, kind := range []string{"Int32", "Int64", "Uint32", "Uint64", "Sint32", "Sint64", "Fixed32", "Fixed64", "Sfixed32", "Sfixed64", "Bool", "Tree"} {
				w.compareJSON(t, maps, []byte(`{"m`+kind+`":{`+text+`:null}}`), false)
				w.compareJSON(t, maps, []byte(`{"m`+kind+`":{`+text+`:`+map[bool]string{true: "{}", false: "1"}[kind == "Tree"]+`}}`), false)
				w.compareJSON(t, maps, []byte(`{"m`+kind+`":{`+text+`:""}}`), false)
			}
		}
	}
	t.Log(w.tally)
}

// TestOverridden has values that are not written since a later one replaces them, each with the fault that a decoder would
// have met in it.
func TestOverridden(t *testing.T) {
	w := theWorld(t)
	const bad = "\xff"
	for _, c := range []struct {
		name, root, overridden, by string
	}{
		{"string", "test.three.Tree", text(1, bad), text(1, "a")},
		{"string by nothing", "test.three.Tree", text(1, bad), text(1, "")},
		{"string with presence", "test.three.Scalars", text(44, bad), text(44, "a")},
		{"member of a oneof", "test.three.Tree", text(7, bad), number(9, 1)},
		{"member of a oneof by itself", "test.three.Tree", text(7, bad), text(7, "a")},
		{"message in a oneof", "test.three.Tree", text(8, text(1, bad)), number(9, 1)},
		{"list in a message in a oneof", "test.three.Tree", text(8, text(4, text(1, bad))), number(9, 1)},
		{"map in a message in a oneof", "test.three.Tree", text(8, text(5, text(1, "k")+text(2, text(1, bad)))), number(9, 1)},
		{"map key in a message in a oneof", "test.three.Tree", text(8, text(5, text(1, bad))), number(9, 1)},
		{"packed list in a message in a oneof", "test.three.Tree", text(13, text(63, "\x80")), number(9, 1)},
		{"frame of a message in a oneof", "test.three.Tree", text(8, "\x0a\x05a"), number(9, 1)},
		{"map value", "test.three.Maps", text(3, number(1, 1)+text(2, bad)), text(3, number(1, 1)+text(2, "a"))},
		{"map value in one entry", "test.three.Maps", text(3, number(1, 1)+text(2, bad)+text(2, "a")), ""},
		{"map key in one entry", "test.three.Maps", text(14, text(1, bad)+text(1, "k")), ""},
		{"message as a map value", "test.three.Maps", text(14, text(1, "k")+text(2, text(1, bad))), text(14, text(1, "k"))},
		{"map key", "test.three.Request", text(7, text(1, bad)), text(7, text(1, "k"))},
		{"wrapper", "google.protobuf.StringValue", text(1, bad), text(1, "a")},
		{"type URL", "google.protobuf.Any", text(1, bad), text(1, "type.googleapis.com/test.three.Tree")},
		{"string of a Value by itself", "google.protobuf.Value", text(3, bad), text(3, "a")},
		{"string of a Value", "google.protobuf.Value", text(3, bad), number(4, 1)},
		{"Struct of a Value", "google.protobuf.Value", text(5, text(1, text(1, bad)+text(2, number(4, 1)))), number(4, 1)},
		{"unset", "test.three.Request", text(4, text(1, bad)), text(4, text(1, "a"))},
		{"string that must be UTF-8 in an edition", "test.edition.Edition", number(3, 1) + text(1, bad), text(1, "a")},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, c.root)
			for _, in := range []string{c.overridden, c.overridden + c.by, c.by + c.overridden} {
				if out, err := jsonwire.AppendJSON(nil, []byte(in), m, nil); err == nil {
					t.Errorf("%x is written as %s", in, out)
				}
				w.compareWire(t, m, []byte(in), 0)
			}
			if c.by != "" {
				if _, err := jsonwire.AppendJSON(nil, []byte(c.by), m, nil); err != nil && !m.HasRequired {
					t.Errorf("%x is refused: %v", c.by, err)
				}
			}
		})
	}
}

// TestMapOrder holds maps of many keys of every kind, some of them several times and some the beginning of others, to the
// order that the oracle gives them.
func TestMapOrder(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "test.three.Maps")
	g := rand.New(rand.NewPCG(9, 10))
	for _, f := range m.Fields {
		for _, spread := range []int{1, 3, 40, 5000} {
			var wire []byte
			for range 400 {
				var key []byte
				n := uint64(g.IntN(spread)) << (8 * g.IntN(8))
				if g.IntN(2) == 0 {
					n = -n
				}
				switch tag := protowire.AppendTag(nil, 1, f.MapKey.Wire); f.MapKey.Wire {
				case protowire.VarintType:
					key = protowire.AppendVarint(tag, n)
				case protowire.Fixed32Type:
					key = protowire.AppendFixed32(tag, uint32(n))
				case protowire.Fixed64Type:
					key = protowire.AppendFixed64(tag, n)
				default:
					if spread == 5000 { // each the beginning of the longer ones
						key = protowire.AppendString(tag, strings.Repeat("a", 1+g.IntN(60)))
						break
					}
					key = protowire.AppendString(tag, strings.Repeat("prefix", g.IntN(spread%3+1))+strings.Repeat("a", spread%2+int(n%9))+strconv.FormatUint(n%97, 36))
				}
				wire = append(wire, bytesField(f.Number, key)...)
			}
			w.compareWire(t, m, wire, 0)
		}
	}
}
