package tarsidl

// group is what becomes one file of protobuf: a module, or a part of one.
type group struct {
	scope *scope
	part  int // 0: the module's own file
	decl  []declaration
}

// groups divides the modules into files that do not import one another in a circle. Each module is one file, unless
// modules use each other: then a module's declarations are divided by how many changes of module lie below them.
func (c *compiler) groups() []*group {
	uses := map[string]map[string]bool{}
	for _, s := range c.order {
		uses[s.name] = map[string]bool{}
		for _, d := range s.decl {
			eachUse(d, func(to declaration) { uses[s.name][moduleOf(to).name] = true })
		}
		delete(uses[s.name], s.name)
	}
	var out []*group
	levels := &levels{compiler: c, of: map[declaration]int{}, index: map[declaration]int{}, low: map[declaration]int{}}
	for _, s := range c.order {
		if !reaches(uses, s.name, s.name, map[string]bool{}) {
			out = append(out, &group{scope: s, decl: s.decl})
			continue
		}
		parts := map[int]*group{}
		for _, d := range s.decl {
			n := levels.level(d)
			if parts[n] == nil {
				parts[n] = &group{scope: s, part: n}
				out = append(out, parts[n])
			}
			parts[n].decl = append(parts[n].decl, d)
		}
	}
	return out
}

// eachUse calls f with every enum and struct that d names.
func eachUse(d declaration, f func(declaration)) {
	var visit func(t *typ)
	visit = func(t *typ) {
		if t == nil {
			return
		}
		visit(t.key)
		visit(t.elem)
		if t.enum != nil {
			f(t.enum)
		}
		if t.strukt != nil {
			f(t.strukt)
		}
	}
	switch d := d.(type) {
	case *structure:
		for _, m := range d.members {
			visit(m.typ)
		}
	case *iface:
		for _, fn := range d.functions {
			visit(fn.ret)
			for _, p := range fn.parameters {
				visit(p.typ)
			}
		}
	}
}

func reaches(uses map[string]map[string]bool, from, to string, seen map[string]bool) bool {
	for next := range uses[from] {
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if reaches(uses, next, to, seen) {
				return true
			}
		}
	}
	return false
}

// levels counts, below a declaration, how often the module changes. Declarations that use each other have one level: they
// are found as Tarjan's algorithm finds strongly connected components.
type levels struct {
	compiler *compiler
	of       map[declaration]int
	index    map[declaration]int // from 1 on, in the order of the visit
	low      map[declaration]int
	stack    []declaration
}

func (l *levels) level(d declaration) int {
	if l.index[d] == 0 {
		l.visit(d)
	}
	return l.of[d]
}

func (l *levels) visit(d declaration) {
	l.index[d] = len(l.index) + 1
	l.low[d] = l.index[d]
	base := len(l.stack)
	l.stack = append(l.stack, d)
	eachUse(d, func(to declaration) {
		if l.index[to] == 0 {
			l.visit(to)
			l.low[d] = min(l.low[d], l.low[to])
		} else if _, closed := l.of[to]; !closed {
			l.low[d] = min(l.low[d], l.index[to])
		}
	})
	if l.low[d] < l.index[d] {
		return
	}
	members := l.stack[base:]
	n := 0
	for _, m := range members {
		if moduleOf(m).name != moduleOf(d).name {
			l.circle(d, m)
		}
		eachUse(m, func(to declaration) {
			below, closed := l.of[to]
			if !closed {
				return
			}
			if moduleOf(to).name != moduleOf(m).name {
				below++
			}
			n = max(n, below)
		})
	}
	for _, m := range members {
		l.of[m] = n
	}
	l.stack = l.stack[:base]
}

// circle refuses declarations that use each other and stand in several modules.
func (l *levels) circle(a, b declaration) {
	l.compiler.faults.add(moduleOf(a).file, a.id().at, "%s::%s and %s::%s contain each other, and files of protobuf cannot import one another in a circle: put them into one module",
		moduleOf(a).name, a.id().name, moduleOf(b).name, b.id().name)
}
