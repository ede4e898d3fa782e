package tars

import (
	"testing"

	"google.golang.org/grpc/codes"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
)

func TestBothEnds(t *testing.T) {
	adaptertest.Both(t, adaptertest.Ends{
		Adapter: Adapter{}, Options: &tarsadapterv1.Options{Servant: "Test.KindsServer.KindsObj"},
		Inlet: Inlet{}, Listener: &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: "Test.KindsServer.KindsObj", Service: "test.v1.Kinds"}}},
		NotFound: codes.Unknown,
	})
}
