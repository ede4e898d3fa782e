package proxy

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// loadTrailer is what an instance says of its load with an answer: xds.data.orca.v3.OrcaLoadReport (gRFC A51).
const loadTrailer = "endpoint-load-metrics-bin"

// takeLoad has the balancer know the load that an answer tells of. It goes on to the caller, who may balance as well.
func takeLoad(node *balancer.Node, reply *rpc.Reply) {
	for i := range reply.Trailer {
		if reply.Trailer[i].Key == loadTrailer {
			if load, ok := parseLoad(reply.Trailer[i].Value); ok {
				node.SetLoad(load, time.Now())
			}
			return
		}
	}
}

// parseLoad reads how loaded an instance is of an OrcaLoadReport: what the application says of itself, else its processor.
func parseLoad(report string) (load float64, ok bool) {
	const cpu, application = 1, 9
	found := protowire.Number(0)
	for b := []byte(report); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, false
		}
		b = b[n:]
		if (num == cpu && found != application || num == application) && typ == protowire.Fixed64Type {
			bits, n := protowire.ConsumeFixed64(b)
			if n < 0 {
				return 0, false
			}
			if v := math.Float64frombits(bits); v >= 0 && !math.IsInf(v, 1) { // also not NaN
				load, found = v, num
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, false
		}
		b = b[n:]
	}
	return load, found != 0
}
