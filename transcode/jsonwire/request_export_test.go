package jsonwire

// StepsOfRequest is AppendRequest, but gives how many elements and fields were looked at.
func StepsOfRequest(r *Request) (int, error) {
	p := newParser(nil, r.Body, nil)
	defer p.release()
	g := merges.Get().(*merge)
	g.parser = p
	g.start = 0
	defer g.release()
	p.partial = 1
	if err := g.request(r); err != nil {
		return 0, err
	}
	return p.steps, nil
}
