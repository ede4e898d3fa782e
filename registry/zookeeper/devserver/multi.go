package devserver

import "slices"

// multi executes all of its operations, or none. The answer has one result for each, and no error of its own.
func (s *Server) multi(k *call) code {
	var ops []int32
	var results [][]byte
	failed := ok
	s.tree.begin()
	for {
		op, done := k.r.int32(), k.r.bool()
		k.r.int32()
		if k.r.err != nil {
			failed = marshallingError
			break
		}
		if done {
			break
		}
		if failed != ok { // what follows cannot be told apart from what it needed of the failed one
			ops = append(ops, op)
			if !skip(k.r, op) {
				break
			}
			continue
		}
		one := call{c: k.c, r: k.r, now: k.now}
		switch op {
		case opCreate, opCreate2, opCreateContainer, opCreateTTL, opDelete, opSetData, opCheck:
			failed = s.change(&one, op)
		default:
			failed = unimplemented
		}
		ops = append(ops, op)
		results = append(results, one.out)
		if k.r.err != nil || failed == unimplemented {
			break
		}
	}
	if k.r.err != nil || failed == unimplemented {
		s.tree.rollback()
		return marshallingError
	}
	if failed != ok {
		s.tree.rollback()
		at := len(results) - 1
		for i := range ops {
			err := inconsistency
			if i < at {
				err = ok
			} else if i == at {
				err = failed
			}
			k.out = appendResult(k.out, opError, int32(err))
			k.out = appendInt32(k.out, int32(err))
		}
	} else {
		for i, op := range ops {
			k.out = append(appendResult(k.out, op, 0), results[i]...)
		}
	}
	k.out = appendInt32(k.out, -1)
	k.out = appendBool(k.out, true)
	k.out = appendInt32(k.out, -1)
	s.fire(slices.Clone(s.tree.events))
	return ok
}

func appendResult(dst []byte, op, err int32) []byte {
	return appendInt32(appendBool(appendInt32(dst, op), false), err)
}

// skip reads an operation of a multi without executing it.
func skip(r *reader, op int32) bool {
	r.string()
	switch op {
	case opCreate, opCreate2, opCreateContainer, opCreateTTL:
		r.buffer()
		r.acls()
		r.int32()
		if op == opCreateTTL {
			r.int64()
		}
	case opSetData:
		r.buffer()
		r.int32()
	case opDelete, opCheck:
		r.int32()
	default:
		return false
	}
	return r.err == nil
}

// multiRead executes reads of data and children; each has its own error.
func (s *Server) multiRead(k *call) code {
	for {
		op, done := k.r.int32(), k.r.bool()
		k.r.int32()
		if k.r.err != nil {
			return marshallingError
		}
		if done {
			break
		}
		if op != opGetData && op != opGetChildren {
			return marshallingError
		}
		one := call{c: k.c, r: k.r, now: k.now}
		err := s.look(&one, op)
		if err == badArguments || err == marshallingError { // where the next one begins is not known
			return err
		}
		if err != ok {
			k.out = appendResult(k.out, opError, int32(err))
			k.out = appendInt32(k.out, int32(err))
			continue
		}
		k.out = append(appendResult(k.out, op, 0), one.out...)
		if len(k.out) > maxQueue {
			return quotaExceeded
		}
	}
	k.out = appendInt32(k.out, -1)
	k.out = appendBool(k.out, true)
	k.out = appendInt32(k.out, -1)
	return ok
}
