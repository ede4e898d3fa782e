package rpcadapters_test

import (
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// What may be sent is what becomes metadata when it is.
func TestPasses(t *testing.T) {
	listed := []string{"x-tenant", "cookie", "x-trace-bin"}
	names := []string{
		"authorization", "traceparent", "x-b3-traceid", "accept-language", "user-agent", "x-request-id", // standard
		"x-tenant", "cookie", "cookie2", "x-trace-bin", "x-other", "x-other-bin", "x_other", "x.other",
		"grpc-metadata-x-tenant", "grpc-metadata-x-other", "grpc-metadata-traceparent", "grpc-metadata-cookie", "grpc-metadata-authorization", "grpc-metadata-",
		"grpc-metadata-grpc-status", "grpc-timeout", "connect-timeout-ms", "x-request-timeout", "content-type", "host", "te",
		"x-forwarded-for", "forwarded", "proxy-authorization", "x-consumer-id", "x_consumer_id", "x-causeway-y", ":path", "",
	}
	for policy, name := range map[rpcadapters.HeaderPolicy]string{rpcadapters.PassListed: "listed", rpcadapters.PassCarried: "carried", rpcadapters.PassAll: "all"} {
		t.Run(name, func(t *testing.T) {
			passed := 0
			for _, key := range names {
				md, err := rpcadapters.AppendRequestMetadata(nil, rpc.Metadata{{Key: key, Value: "AA"}}, listed, policy)
				want := err == nil && len(md) == 1
				if got := rpcadapters.Passes(key, listed, policy); got != want {
					t.Errorf("%q: want %t as in AppendRequestMetadata, found %t", key, want, got)
				}
				if want {
					passed++
				}
			}
			if passed < 10 || passed > len(names)-10 {
				t.Errorf("%d of %d pass", passed, len(names))
			}
		})
	}
}

// Each of several Connection headers names headers of one hop.
func TestEveryConnectionHeaderCounts(t *testing.T) {
	headers := rpc.Metadata{
		{Key: "connection", Value: "keep-alive"},
		{Key: "connection", Value: "close, X-One"},
		{Key: "x-one", Value: "a"},
		{Key: "x-other", Value: "b"},
	}
	md, err := rpcadapters.AppendRequestMetadata(nil, headers, []string{"x-one", "x-other"}, rpcadapters.PassListed)
	if err != nil || len(md) != 1 || md[0].Key != "x-other" {
		t.Errorf("want x-other alone, found %v %v", md, err)
	}
}
