package proxy

import (
	"io"
	"sync"
)

// states holds what outlives plugins that are made anew.
type states struct {
	mu sync.Mutex
	m  map[string]*kept
}

// kept is one state, held by every plugin that asked for it.
type kept struct {
	of    *states
	key   string
	value any
	refs  int
}

// acquire returns the state under key, made now if nobody holds it. Who got it calls release.
func (s *states) acquire(key string, create func() (any, error)) (*kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.m[key]
	if k == nil {
		v, err := create()
		if err != nil {
			return nil, err
		}
		k = &kept{of: s, key: key, value: v}
		if s.m == nil {
			s.m = map[string]*kept{}
		}
		s.m[key] = k
	}
	k.refs++
	return k, nil
}

// release gives the state up; the last one closes it.
func (k *kept) release() error {
	k.of.mu.Lock()
	k.refs--
	last := k.refs == 0
	if last {
		delete(k.of.m, k.key)
	}
	k.of.mu.Unlock()
	if c, ok := k.value.(io.Closer); ok && last {
		return c.Close()
	}
	return nil
}
