package static

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
)

func TestResolver(t *testing.T) {
	registrytest.Run(t, func(t *testing.T, addresses ...string) registry.Resolver {
		endpoints := make([]registry.Endpoint, len(addresses))
		for i, a := range addresses {
			endpoints[i] = registry.Endpoint{Address: a, Weight: 100}
		}
		r, err := New("orders", endpoints...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}

func TestUnknownServiceIsSaid(t *testing.T) {
	r, err := New("orders", registry.Endpoint{Address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Watch(context.Background(), "ordres", registrytest.NewSink(t)); err == nil || !strings.Contains(err.Error(), `"ordres"`) {
		t.Errorf("want the service named, found %v", err)
	}
}

func TestOneAddressTwiceIsRefused(t *testing.T) {
	if _, err := New("orders", registry.Endpoint{Address: "a:1"}, registry.Endpoint{Address: "a:1"}); err == nil || !strings.Contains(err.Error(), "a:1") {
		t.Errorf("want the address named, found %v", err)
	}
}
