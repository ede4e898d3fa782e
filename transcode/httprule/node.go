package httprule

import (
	"hash/maphash"
	"slices"
)

// node is one place in a trie. As long as a single shape of template is found below it, the node is a leaf, and its
// entries' forms say what is still to come; only a second shape makes branches. So most nodes are leaves, and a search
// ends at the first segment that tells a template from all others.
//
// A search is as fast as the memory that it touches is near: with a pointer as value a node is 64 bytes, its first entry
// inside, and what templates have in common (form, layout) is one value for all of them.
type node[T any] struct {
	text   string     // of the literal that leads here
	branch *branch[T] // nil: a leaf
	first  entry[T]   // its form is nil if nothing ends here
}

// entry is a value; those of one node are a list, in the order added.
type entry[T any] struct {
	verb  string
	form  *form
	value T
	next  *entry[T]
}

// form is what a search needs of a template at a node.
type form struct {
	rest []segment // those behind the node, if that is a leaf
	*layout
}

// layout is what is captured of a path that fits.
type layout struct {
	segs int // how many segments the template has
	glob int // index of "**" among them, or -1
	vars []capture
	open []span // wildcards that no variable captures
}

// capture is where a variable's text is, and what of it stays encoded.
type capture struct {
	span span
	keep reserve
}

// branch is what follows a node.
type branch[T any] struct {
	literals literals[T]
	star     *node[T]
	tails    []tail[T] // what follows "**", the longest tail first
}

type tail[T any] struct {
	length int
	node   *node[T]
}

func (n *node[T]) empty() bool { return n.first.form == nil && n.branch == nil }

// rest are the segments of a leaf's templates behind it.
func (n *node[T]) rest() []segment {
	if n.first.form == nil {
		return nil
	}
	return n.first.form.rest
}

// append adds an entry to those that end at n.
func (n *node[T]) append(e entry[T]) {
	if n.first.form == nil {
		n.first = e
		return
	}
	last := &n.first
	for last.next != nil {
		last = last.next
	}
	last.next = &e
}

// tail returns the node behind a "**" that length segments follow, and makes it if need be.
func (b *branch[T]) tail(length int) *node[T] {
	i, found := slices.BinarySearchFunc(b.tails, length, func(t tail[T], length int) int { return length - t.length })
	if !found {
		b.tails = slices.Insert(b.tails, i, tail[T]{length, &node[T]{}})
	}
	return b.tails[i].node
}

// behind returns the node behind s, with after segments following it, or nil.
func (n *node[T]) behind(s segment, after int) *node[T] {
	switch s.kind {
	case literal:
		return n.branch.literals.find(s.text)
	case star:
		return n.branch.star
	case deep:
	}
	for _, t := range n.branch.tails {
		if t.length == after {
			return t.node
		}
	}
	return nil
}

// literals finds nodes by their text: one by one, which is cheaper, while they are few; else by a table of which at most
// two thirds are taken. A table keeps the hashes at hand, so that a look-up reads one slot and then the node asked for.
type literals[T any] struct {
	slots []slot[T] // a power of two of them if there are more than few
	mask  uint64    // of a table: one less than its slots
	count int
}

type slot[T any] struct {
	hash uint64
	node *node[T]
}

const few = 4

// seed makes it unforeseeable which texts share a slot.
var seed = maphash.MakeSeed()

// find returns the node for a decoded literal, or nil.
func (l *literals[T]) find(text string) *node[T] {
	if len(l.slots) <= few {
		for i := range l.slots {
			if n := l.slots[i].node; n.text == text {
				return n
			}
		}
		return nil
	}
	hash := maphash.String(seed, text)
	for i := hash & l.mask; ; i = (i + 1) & l.mask {
		s := &l.slots[i]
		if s.node == nil || s.hash == hash && s.node.text == text {
			return s.node
		}
	}
}

// add adds a node whose text is not there yet.
func (l *literals[T]) add(n *node[T]) {
	l.count++
	if l.count <= few {
		l.slots = append(l.slots, slot[T]{node: n})
		return
	}
	if 3*l.count > 2*len(l.slots) || l.count == few+1 {
		old := l.slots
		l.mask = max(4*few-1, 2*l.mask+1)
		l.slots = make([]slot[T], l.mask+1)
		for _, s := range old {
			if s.node != nil {
				l.place(s.node)
			}
		}
	}
	l.place(n)
}

func (l *literals[T]) place(n *node[T]) {
	hash := maphash.String(seed, n.text)
	i := hash & l.mask
	for l.slots[i].node != nil {
		i = (i + 1) & l.mask
	}
	l.slots[i] = slot[T]{hash, n}
}
