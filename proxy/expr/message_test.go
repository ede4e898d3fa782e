package expr

import (
	"math"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// asked are expressions over a Values, whose answers CEL's own protobuf values give as well.
var asked = []string{
	"message.text", "message.small_number", "message.large_number", "message.natural", "message.flag", "message.color",
	"message.data", "message.ratio", "message.tags", "message.tags.size()", "message.nested.text", "message.nested.nested.text",
	"message.nested.tags", "message.labels", "message.labels.size()", "'tier' in message.labels", "message.note", "message.note == null",
	"message.left", "message.right", "message.maybe", "has(message.text)", "has(message.small_number)", "has(message.nested)",
	"has(message.tags)", "has(message.labels)", "has(message.note)", "has(message.left)", "has(message.right)", "has(message.maybe)",
	"has(message.nested.text)", "message.nested.note == null", "has(message.data)", "has(message.ratio)", "has(message.color)",
	"message.tags.exists(t, t == 'a')", "message.labels.all(k, k != 'x')", "message.small_number + 1", "double(message.small_number) / 2.0",
}

// oracle evaluates over a message of generated Go.
type oracle []cel.Program

func newOracle(t testing.TB) oracle {
	t.Helper()
	env, err := cel.NewEnv(cel.Types(&echov1.Values{}), cel.Variable("message", cel.ObjectType("demo.echo.v1.Values")))
	if err != nil {
		t.Fatal(err)
	}
	var o oracle
	for _, text := range asked {
		ast, issues := env.Compile(text)
		if issues.Err() != nil {
			t.Fatalf("%s: %s", text, issues.Err())
		}
		p, err := env.Program(ast)
		if err != nil {
			t.Fatal(err)
		}
		o = append(o, p)
	}
	return o
}

func programs(t testing.TB) []*Program {
	t.Helper()
	var out []*Program
	for _, text := range asked {
		p, err := compile(text, nil)
		if err != nil {
			t.Fatalf("%s: %s", text, err)
		}
		out = append(out, p)
	}
	return out
}

func compare(t *testing.T, c *rpc.Call, m *echov1.Values, own []*Program, o oracle) {
	t.Helper()
	for i := range asked {
		compareOne(t, i, c, m, own, o)
	}
}

func compareOne(t *testing.T, i int, c *rpc.Call, m *echov1.Values, own []*Program, o oracle) {
	t.Helper()
	got, gerr := own[i].eval(t.Context(), c, nil)
	want, _, werr := o[i].Eval(map[string]any{"message": m})
	if (gerr != nil) != (werr != nil) {
		t.Errorf("%s: found %v, %v; the oracle has %v, %v", asked[i], got, gerr, want, werr)
	} else if gerr == nil && !same(got, want) {
		t.Errorf("%s: found %v, the oracle has %v", asked[i], got, want)
	}
}

func same(a, b ref.Val) bool {
	if x, ok := a.(types.Double); ok && x != x {
		y, ok := b.(types.Double)
		return ok && y != y
	}
	return a.Equal(b) == types.True
}

func TestMessageAgainstGeneratedGo(t *testing.T) {
	own, o := programs(t), newOracle(t)
	for _, m := range []*echov1.Values{{}, values(), {Note: nil, Side: &echov1.Values_Left{Left: "l"}}, {Ratio: math.Copysign(0, -1)}} {
		c, _ := callOf(t, m)
		compare(t, c, m, own, o)
	}
}

// FuzzMessage: bytes that are a message are the same message here and in generated Go.
func FuzzMessage(f *testing.F) {
	for _, m := range []*echov1.Values{{}, values()} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for i := range asked {
			f.Add(uint8(i), append(raw, raw...)) //nolint:gosec // there are few
		}
	}
	f.Add(uint8(10), []byte{0x4a, 3, 0x0a, 1, 'a', 0x4a, 3, 0x52, 1, 'b', 0x4a, 0})
	for i := range asked { // 32-bit fields with more bits
		f.Add(uint8(i), []byte{0x10, 0x80, 0x80, 0x80, 0x80, 0x10, 0x30, 0x80, 0x80, 0x80, 0x80, 0x10}) //nolint:gosec // there are few
	}
	own, o := programs(f), newOracle(f)
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		i := int(which) % len(asked)
		m := &echov1.Values{}
		c, b := callOf(t, m)
		b.data = raw
		if proto.Unmarshal(raw, m) != nil {
			_, _ = own[i].eval(t.Context(), c, nil) // no more than an error
			return
		}
		compareOne(t, i, c, m, own, o)
	})
}

func BenchmarkBool(b *testing.B) {
	c, _ := callOf(b, values())
	for _, text := range []string{
		`request.path.startsWith('/v1/')`, `consumer.name == 'shop' && 'eu' in consumer.groups`, `request.headers['x-a'] == '1'`, `message.nested.text == 'inner'`,
	} {
		p, err := Bool(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := p.Bool(b.Context(), c, nil); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
