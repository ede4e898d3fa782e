package jsonwire

import "github.com/causeway-gateway/causeway/transcode/schema"

// StepsToJSON is AppendJSON, but gives how many tags and occurrences were looked at.
func StepsToJSON(wire []byte, m *schema.Message) (int, error) {
	p := newPrinter(nil, wire, nil)
	defer p.release()
	if !p.root() || !p.message(m, 0, 1) {
		return p.steps, p.err
	}
	return p.steps, nil
}

// StepsToWire is AppendWire, but gives how many elements were looked at.
func StepsToWire(json []byte, m *schema.Message) (int, error) {
	p := newParser(nil, json, nil)
	defer p.release()
	if !p.message(m) || !p.end() {
		return p.steps, p.fault("")
	}
	return p.steps, nil
}
