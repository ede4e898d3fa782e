package balancer

import (
	"context"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

var policies = []Policy{RoundRobin, LeastRequest, PeakEWMA, RingHash, Maglev, Random}

// nowhere is a transport that carries nothing.
type nowhere struct{ closed chan struct{} }

func (nowhere) Unary(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { return nil }

func (w nowhere) Close() error {
	close(w.closed)
	return nil
}

// member is a member that is up.
func member(address string, weight uint32) Member {
	return Member{Node: NewNode(registry.Endpoint{ID: address, Address: address}, nowhere{make(chan struct{})}, nil), Weight: weight, Up: true}
}
