package hmacauth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// nonces remember requests.
type nonces interface {
	// first tells whether nobody came with this nonce of a key for as long as its signature can count.
	first(ctx context.Context, key, nonce string, span time.Duration) (bool, error)
}

// digest of a key's nonce; half of SHA-256 is enough against collisions that nobody can search for without the key.
type digest [16]byte

func digestOf(key, nonce string) digest {
	sum := sha256.Sum256([]byte(key + "\x00" + nonce))
	return digest(sum[:16])
}

// memory keeps the nonces of this gateway in two generations. One lasts as long as a signature can count, so that what both
// have not is new.
type memory struct {
	most int // in a generation
	now  func() time.Time

	mu            sync.Mutex
	began         time.Time // of young
	young, former map[digest]struct{}
}

// first implements nonces. What has no room is refused: to forget would be to take it again.
func (m *memory) first(_ context.Context, key, nonce string, span time.Duration) (bool, error) {
	d := digestOf(key, nonce)
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	switch age := now.Sub(m.began); {
	case m.young == nil || age >= 2*span:
		m.began, m.young, m.former = now, map[digest]struct{}{}, nil
	case age >= span:
		m.began, m.young, m.former = now, map[digest]struct{}{}, m.young
	}
	if _, ok := m.former[d]; ok {
		return false, nil
	}
	if _, ok := m.young[d]; ok {
		return false, nil
	}
	if len(m.young) >= m.most {
		return false, rpc.Refuse(codes.Unavailable, "NONCES_FULL", "too many signed requests at the moment")
	}
	m.young[d] = struct{}{}
	return true, nil
}

// shared keeps nonces in a store, for all gateways.
type shared struct {
	store plugin.Store
	own   *memory
	local bool // own decides while the store does not answer
}

// setOnce sets a key that is not there, for so many milliseconds.
var setOnce = plugin.Script{Source: `if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 1 end return 0`}

// first implements nonces. The own memory goes first: what this gateway has seen costs no round trip, and it knows enough to
// go on alone.
func (s *shared) first(ctx context.Context, key, nonce string, span time.Duration) (bool, error) {
	fresh, err := s.own.first(ctx, key, nonce, span)
	if err != nil || !fresh {
		return false, err
	}
	d := digestOf(key, nonce)
	v, err := s.store.Run(ctx, &setOnce, []string{"causeway:nonce:" + hex.EncodeToString(d[:])}, span.Milliseconds())
	if err != nil {
		if s.local {
			return true, nil
		}
		return false, rpc.Refuse(codes.Unavailable, "STORE_UNAVAILABLE", "signed requests cannot be checked at the moment").WithCause(err)
	}
	n, ok := v.(int64)
	return ok && n == 1, nil
}
