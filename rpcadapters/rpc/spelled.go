package rpc

// Spelled is metadata as the protocol that it came by had it, where names and values are any text there (the context of TARS,
// the trans_info of tRPC): for who sends it on over such a protocol. It stands beside the list that plugins see and change, which
// decides: what is not there any more, or is there otherwise, is not sent as it was. An empty list says that nothing was
// spelled otherwise.
type Spelled []Spelling

// Spelling is one pair as it stood.
type Spelling struct {
	// As is the pair that metadata has of it, in the same order; without a key: none, for metadata has no such names.
	As Pair
	// Name and Text are the pair as it stood; of -bin names Text is base64, or what stood there where that is none.
	Name, Text string
}

// Speller finds how the pairs of a list of metadata stood. The zero value finds nothing.
type Speller struct {
	of Spelled
	at int
}

// Speller begins to go over what is spelled.
func (s Spelled) Speller() Speller { return Speller{of: s} }

// Next tells how a pair stood, which is asked for in the order of its list; own is false for one that was made since. The list
// is looked through once, however many pairs were removed.
func (s *Speller) Next(p *Pair) (name, text string, own bool) {
	for i := s.at; i < len(s.of); i++ {
		if s.of[i].As == *p {
			s.at = i + 1
			return s.of[i].Name, s.of[i].Text, true
		}
	}
	return p.Key, p.Value, false
}
