package jsonwire

import "github.com/causeway-gateway/causeway/transcode/schema"

// Cost is what a translation without pooled memory took.
type Cost struct {
	Steps    int // tags, occurrences or elements looked at
	Moved    int // bytes moved to make room for lengths
	Scratch  int // bytes allocated besides the output
	Elements int // what counts against MaxElements
	Output   int // bytes
}

// CostToJSON is AppendJSON, but gives its cost.
func CostToJSON(wire []byte, m *schema.Message) (Cost, error) {
	p := &printer{in: wire, end: len(wire)}
	p.maxDepth, p.maxElements = p.opts.limits()
	if !p.root() || !p.message(m, 0, 1) {
		return Cost{}, p.err
	}
	return Cost{Steps: p.steps, Scratch: p.scratch(), Elements: p.elements, Output: len(p.out)}, nil
}

// CostToWire is AppendWire, but gives its cost.
func CostToWire(json []byte, m *schema.Message) (Cost, error) {
	p := &parser{in: json}
	p.maxDepth, p.maxElements = p.opts.limits()
	if !p.fits() || !p.message(m) || !p.end() {
		return Cost{}, p.fault("")
	}
	p.spread()
	return Cost{Steps: p.steps, Moved: p.moved, Scratch: p.scratch(), Elements: p.elements, Output: len(p.out)}, nil
}
