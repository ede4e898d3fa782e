package tarswire

// StepsOfWire is AppendWire, but gives what it costs: how many heads and elements were looked at, and how many bytes were
// moved to make room for lengths.
func StepsOfWire(tars []byte, m *Message, o *Options) (steps, moved int, err error) {
	d := newDecoder(nil, tars, o)
	defer d.release()
	if !d.fits() || !d.members(m, false) || !d.bounded() {
		return d.steps + d.elements, d.moved, d.err
	}
	d.spread()
	return d.steps + d.elements, d.moved, nil
}

// StepsOfTARS is AppendTARS, but gives how many tags and occurrences were looked at, and the bytes of scratch.
func StepsOfTARS(wire []byte, m *Message, o *Options) (steps, scratch int, err error) {
	e := newEncoder(nil, wire, o)
	defer e.release()
	if !e.root() || !e.whole(m) {
		return e.steps, e.scratch(), e.err
	}
	return e.steps, e.scratch(), nil
}
