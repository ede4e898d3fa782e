package trpc

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
)

func TestBothEnds(t *testing.T) {
	adaptertest.Both(t, adaptertest.Ends{Adapter: Adapter{}, Inlet: Inlet{}, NotFound: codes.Unknown})
}
