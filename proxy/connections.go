package proxy

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// connections bounds the connections of callers, on all listeners together.
type connections struct {
	limit   atomic.Int64
	open    atomic.Int64
	refused counter
}

var _ wire.Admitter = (*Gateway)(nil)

// Admit implements wire.Admitter.
func (g *Gateway) Admit() bool {
	if g.conns.open.Add(1) > g.conns.limit.Load() {
		g.conns.open.Add(-1)
		g.conns.refused.Add(1)
		return false
	}
	return true
}

// Left implements wire.Admitter.
func (g *Gateway) Left() { g.conns.open.Add(-1) }

const (
	// reservedFiles are left for upstreams, logs and the admin listener, whatever the configuration says.
	reservedFiles = 64
	// mostConnections is the default where files do not matter.
	mostConnections = 100_000
)

// connectionLimit is how many connections callers may have where the configuration says so many (0: nothing) and the process
// may have so many files open. Each may need one to an upstream as well.
func connectionLimit(configured, files int64, log *slog.Logger) int64 {
	if configured == 0 {
		return max(1, min(files/2, mostConnections))
	}
	if most := max(1, files-reservedFiles); configured > most {
		log.Warn("limits.connections is more than the process can have; it is lowered", "configured", configured, "limit", most,
			"fix", fmt.Sprintf("allow the process %d open files (ulimit -n, LimitNOFILE)", configured+reservedFiles))
		return most
	}
	return configured
}
