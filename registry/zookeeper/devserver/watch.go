package devserver

// mode is how long a watch lasts and what it sees.
type mode uint8

const (
	once       mode = iota // until its first event
	forever                // events of its node and of the list of its children
	forTheTree             // events of its node and of everything below it, no lists of children
)

// watches is who wants to hear of which path. It belongs to whoever holds the server's lock.
type watches map[string]map[*conn]mode

func (w watches) add(path string, c *conn, m mode) {
	if w[path] == nil {
		w[path] = map[*conn]mode{}
	}
	if before, had := w[path][c]; had {
		w[path][c] = max(before, m) // the longer one lasts
		return
	}
	w[path][c] = m
	c.watching++
}

func (w watches) drop(path string, c *conn) bool {
	if _, had := w[path][c]; !had {
		return false
	}
	delete(w[path], c)
	c.watching--
	if len(w[path]) == 0 {
		delete(w, path)
	}
	return true
}

// fire tells the watchers of an event, leaving out those in told, and returns all that were told.
func (w watches) fire(e event, told map[*conn]bool) map[*conn]bool {
	for at, own := e.path, true; ; own = false {
		for c, m := range w[at] {
			switch {
			case m == forTheTree && e.typ == nodeChildrenChanged, m != forTheTree && !own:
				continue
			case m == once:
				w.drop(at, c)
			}
			if told[c] {
				continue
			}
			if told == nil {
				told = map[*conn]bool{}
			}
			told[c] = true
			c.sendEvent(e)
		}
		if at == "/" {
			return told
		}
		at, _ = split(at)
	}
}

// fire tells everybody who watches, in the order in which the events happened.
func (s *Server) fire(events []event) {
	for _, e := range events {
		switch e.typ {
		case nodeDeleted:
			s.childWatches.fire(e, s.dataWatches.fire(e, nil))
		case nodeChildrenChanged:
			s.childWatches.fire(e, nil)
		default:
			s.dataWatches.fire(e, nil)
		}
	}
}

// unwatch forgets all watches of a connection.
func (s *Server) unwatch(c *conn) {
	for _, w := range []watches{s.dataWatches, s.childWatches} {
		if c.watching == 0 {
			return
		}
		for path := range w {
			w.drop(path, c)
		}
	}
}

func (s *Server) watchAgain(c *conn, r *reader, persistentToo bool) code {
	since := r.int64()
	data, exist, child := r.strings(), r.strings(), r.strings()
	var lasting, recursive []string
	if persistentToo {
		lasting, recursive = r.strings(), r.strings()
	}
	if r.err != nil {
		return marshallingError
	}
	for _, path := range data {
		switch n := s.tree.nodes[path]; {
		case n == nil:
			c.sendEvent(event{nodeDeleted, path})
		case n.mzxid > since:
			c.sendEvent(event{nodeDataChanged, path})
		default:
			s.dataWatches.add(path, c, once)
		}
	}
	for _, path := range exist {
		if s.tree.nodes[path] != nil {
			c.sendEvent(event{nodeCreated, path})
		} else {
			s.dataWatches.add(path, c, once)
		}
	}
	for _, path := range child {
		switch n := s.tree.nodes[path]; {
		case n == nil:
			c.sendEvent(event{nodeDeleted, path})
		case n.pzxid > since:
			c.sendEvent(event{nodeChildrenChanged, path})
		default:
			s.childWatches.add(path, c, once)
		}
	}
	for _, path := range lasting {
		s.dataWatches.add(path, c, forever)
		s.childWatches.add(path, c, forever)
	}
	for _, path := range recursive {
		s.dataWatches.add(path, c, forTheTree)
		s.childWatches.add(path, c, forTheTree)
	}
	return ok
}
