package http2

import (
	"bytes"
	"hash/maphash"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Head is the header block of an answer, or its trailers. It is shared between calls and read-only.
type Head struct {
	Status int // HTTP status; 0 in trailers
	Fields rpc.Metadata

	length int64 // what content-length says; -1: nothing
}

// headMemo keeps decoded blocks by their bytes. It is right only while blocks depend on nothing but their bytes, see
// headerDecoder.stateless. A block is kept when it is seen for the second time: most of those that differ from call to
// call come once.
type headMemo struct {
	seed maphash.Seed
	sets [memoEntries / memoWays]memoSet
}

// memoWays is how many blocks of one set there may be: the few that a service always sends must not drive each other out.
const memoWays = 4

type memoSet struct {
	slots [memoWays]memoSlot
	seen  [memoWays]uint32 // of hashes met once
	slot  uint8            // the next one to be overwritten
	mark  uint8            // the same of seen
}

type memoSlot struct {
	hash  uint64
	kind  blockKind
	block []byte
	head  *Head
}

func newHeadMemo() *headMemo { return &headMemo{seed: maphash.MakeSeed()} }

// get returns the kept head of a block, or nil. keep tells that the block was met before and may be put.
func (m *headMemo) get(block []byte, kind blockKind) (head *Head, hash uint64, keep bool) {
	if len(block) > memoBlock {
		return nil, 0, false
	}
	hash = maphash.Bytes(m.seed, block)
	set := &m.sets[hash%uint64(len(m.sets))]
	for i := range set.slots {
		s := &set.slots[i]
		if s.hash == hash && s.kind == kind && s.head != nil && bytes.Equal(s.block, block) {
			return s.head, hash, false
		}
	}
	mark := uint32(hash>>32) | 1
	for _, seen := range set.seen {
		if seen == mark {
			return nil, hash, true
		}
	}
	set.seen[set.mark%memoWays] = mark
	set.mark++
	return nil, hash, false
}

// put keeps head, which get has offered to.
func (m *headMemo) put(block []byte, kind blockKind, hash uint64, head *Head) {
	set := &m.sets[hash%uint64(len(m.sets))]
	set.slots[set.slot%memoWays] = memoSlot{hash, kind, bytes.Clone(block), head}
	set.slot++
}
