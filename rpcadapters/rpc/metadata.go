package rpc

// Pair is one metadata entry. Keys are lower case; values of keys ending in "-bin" are the raw bytes.
type Pair struct{ Key, Value string }

// Metadata is an ordered list of entries; keys may repeat. Lists are short, so looking is a scan.
type Metadata []Pair

// Get returns the first value of key, or "".
func (m Metadata) Get(key string) string {
	for i := range m {
		if m[i].Key == key {
			return m[i].Value
		}
	}
	return ""
}

// Has tells whether key is present.
func (m Metadata) Has(key string) bool {
	for i := range m {
		if m[i].Key == key {
			return true
		}
	}
	return false
}

// Count returns how many entries key has.
func (m Metadata) Count(key string) int {
	n := 0
	for i := range m {
		if m[i].Key == key {
			n++
		}
	}
	return n
}

// Add appends an entry.
func (m *Metadata) Add(key, value string) { *m = append(*m, Pair{key, value}) }

// Set replaces every entry of key by one.
func (m *Metadata) Set(key, value string) {
	m.Del(key)
	m.Add(key, value)
}

// Del removes every entry of key, keeping the order of the rest.
func (m *Metadata) Del(key string) {
	s := *m
	n := 0
	for i := range s {
		if s[i].Key != key {
			s[n] = s[i]
			n++
		}
	}
	clear(s[n:])
	*m = s[:n]
}
