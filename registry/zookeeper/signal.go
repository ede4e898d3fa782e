package zookeeper

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// DrainOnSignal waits for SIGTERM or an interrupt, or for ctx to end. Then it drains the leases, all at once, and withdraws
// them. When it returns, no gateway sends new calls: stop the server gracefully then. A second signal ends the process, as
// signals do by default.
func DrainOnSignal(ctx context.Context, leases ...registry.Lease) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	<-ctx.Done()
	stop()
	return drain(context.WithoutCancel(ctx), leases)
}

func drain(ctx context.Context, leases []registry.Lease) error {
	faults := make([]error, len(leases))
	var all sync.WaitGroup
	for i, l := range leases {
		all.Go(func() {
			err := l.Drain(ctx)
			short, cancel := context.WithTimeout(ctx, 5*time.Second) // the node expires anyway
			defer cancel()
			faults[i] = errors.Join(err, l.Close(short))
		})
	}
	all.Wait()
	return errors.Join(faults...)
}
