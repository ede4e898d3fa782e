// Package expr evaluates expressions over calls: the Common Expression Language (https://cel.dev), compiled when a
// configuration is loaded, with a bound on what one evaluation may cost. It is the only home of cel-go.
package expr

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Program is a compiled expression. It may be used by many goroutines at once.
type Program struct {
	text    string
	run     cel.Program
	answer  bool
	who     bool // it asks for the consumer, or for claims
	decides bool // it is true or false
	counted bool // its steps are counted, and its context asked
	message bool // it asks for the message
	ast     ast.Expr
}

// String is the expression as it was written.
func (p *Program) String() string { return p.text }

// AfterAnswer tells whether the expression asks for the answer, which is known at the end of a call only.
func (p *Program) AfterAnswer() bool { return p.answer }

// maxText bounds an expression, in bytes; maxCost what an evaluation may cost, in cel-go's units (about one per step, and
// one for ten bytes of text that are gone through).
const (
	maxText = 4096
	maxCost = 50_000
)

// maxSize is how many bytes a text of a request may have: heads are bounded.
const maxSize = 64 << 10

// sizes tells how large values can be, as far as that is known before.
type sizes struct{}

// EstimateSize implements cost.CostEstimator.
func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if node.Type().IsExactType(cel.StringType) && len(node.Path()) > 0 && node.Path()[0] != "message" && node.Path()[0] != "claims" {
		return &cost.SizeEstimate{Max: maxSize}
	}
	return nil
}

// EstimateCallCost implements cost.CostEstimator.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// Bool compiles an expression that is true or false. The error names what is wrong with it, and where.
func Bool(text string) (*Program, error) { return compile(text, cel.BoolType) }

// Text compiles an expression whose value is text, a number or a truth value; Text writes it.
func Text(text string) (*Program, error) { return compile(text, nil) }

func compile(text string, want *cel.Type) (*Program, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("the expression has %d bytes, at most %d are taken", len(text), maxText)
	}
	env, err := environment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fault(issues)
	}
	out := checked.OutputType()
	if want != nil && !out.IsExactType(want) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("wanted an expression that is %s, found one that is %s", want, out)
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	counted := false
	if cost, err := env.EstimateCost(checked, sizes{}); err != nil || cost.Max > maxCost {
		// Counting makes every step dearer, so it is for those that can become dear.
		counted = true
		options = append(options, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	}
	run, err := env.Program(checked, options...)
	if err != nil {
		return nil, err
	}
	return &Program{
		text: text, run: run, answer: asks(checked, "answer."), who: asks(checked, "consumer.") || asks(checked, "claims"),
		decides: want != nil, counted: counted, message: asks(checked, "message"), ast: checked.NativeRep().Expr(),
	}, nil
}

// environment is the one that all expressions are compiled in.
var environment = sync.OnceValues(func() (*cel.Env, error) { return cel.NewEnv(append(variables(), functions()...)...) })

var errNotBool = errors.New("the expression is not true or false")

// Bool evaluates the expression over a call; sent is nil before its end.
func (p *Program) Bool(ctx context.Context, c *rpc.Call, sent *rpc.Sent) (bool, error) {
	v, err := p.eval(ctx, c, sent)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(b), nil
}

// Text evaluates the expression over a call; sent is nil before its end.
func (p *Program) Text(ctx context.Context, c *rpc.Call, sent *rpc.Sent) (string, error) {
	v, err := p.eval(ctx, c, sent)
	if err != nil {
		return "", err
	}
	s, ok := v.ConvertToType(types.StringType).(types.String)
	if !ok {
		return "", fmt.Errorf("the expression's value is %s, which is no text", v.Type().TypeName())
	}
	return string(s), nil
}

func (p *Program) eval(ctx context.Context, c *rpc.Call, sent *rpc.Sent) (ref.Val, error) {
	a := activations.Get().(*activation)
	a.ctx, a.call, a.sent, a.decides = ctx, c, sent, p.decides
	var v ref.Val
	var err error
	if p.counted {
		v, _, err = p.run.ContextEval(ctx, a)
	} else {
		v, _, err = p.run.Eval(a)
	}
	*a = activation{}
	activations.Put(a)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", p.text, err)
	}
	return v, nil
}
