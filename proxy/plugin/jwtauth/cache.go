package jwtauth

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// verified is what is known of a token whose signature was checked. It is shared by calls and never changes.
type verified struct {
	token               string
	key                 *key
	notBefore, notAfter float64 // seconds since 1970, without leeway; 0: no bound
	claims              rpc.Claims
	headers             rpc.Metadata // of the claims
	consumer            string       // the value of the claim that names one
	lacks               lack
	size                int // bytes, as an estimate
}

// timely tells whether the token is good at a time.
func (v *verified) timely(now time.Time, leeway float64) bool {
	at := float64(now.UnixMilli()) / 1000
	return at >= v.notBefore-leeway && (v.notAfter == 0 || at < v.notAfter+leeway)
}

// cache remembers verified tokens, each found by all of its bytes. What was not used for the longest makes room.
type cache struct{ shards [shards]shard }

const (
	shards       = 16
	unbounded    = 1 << 30 // entries of a shard: bytes are the bound
	entrySize    = 600     // bytes of an entry beside its texts
	perValue     = 48      // bytes of a claim's value beside its text
	defaultCache = 16 << 20
	maxCache     = 1 << 30
)

type shard struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[string, *verified]
	bytes int
	limit int
	_     [64]byte // shards are used by different processors
}

func newCache(limit int) (*cache, error) {
	c := &cache{}
	for i := range c.shards {
		s := &c.shards[i]
		s.limit = limit / shards
		lru, err := simplelru.NewLRU(unbounded, func(_ string, v *verified) { s.bytes -= v.size })
		if err != nil {
			return nil, err
		}
		s.lru = lru
	}
	return c, nil
}

// shard of a token: by the end of its signature, which is as good as random.
func (c *cache) shard(token string) *shard {
	if len(token) < 8 {
		return &c.shards[0]
	}
	return &c.shards[(token[len(token)-3]^token[len(token)-6]<<1)%shards]
}

func (c *cache) get(token string) *verified {
	s := c.shard(token)
	s.mu.Lock()
	v, _ := s.lru.Get(token)
	s.mu.Unlock()
	return v
}

// add takes a token in; its text is copied, as it is a part of a request's head.
func (c *cache) add(v *verified) {
	v.token = strings.Clone(v.token)
	s := c.shard(v.token)
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.size > s.limit {
		return
	}
	s.lru.Remove(v.token)
	s.lru.Add(v.token, v)
	s.bytes += v.size
	for s.bytes > s.limit {
		s.lru.RemoveOldest()
	}
}

func (c *cache) remove(token string) {
	s := c.shard(token)
	s.mu.Lock()
	s.lru.Remove(token)
	s.mu.Unlock()
}

// size is how many bytes are held.
func (c *cache) size() (bytes, entries int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		bytes += s.bytes
		entries += s.lru.Len()
		s.mu.Unlock()
	}
	return bytes, entries
}
