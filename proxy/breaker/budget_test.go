package breaker_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/causeway-gateway/causeway/proxy/breaker"
)

func TestBudget(t *testing.T) {
	b := breaker.NewBudget(0)
	for i := range 4 {
		if got, want := b.Withdraw(), i < 3; got != want {
			t.Errorf("retry %d without a call is allowed: %t", i+1, got)
		}
	}
	for i := range 20 {
		b.Deposit()
		if got, want := b.Withdraw(), i%5 == 4; got != want {
			t.Errorf("a retry after call %d is allowed: %t", i+1, got)
		}
	}
	if got := b.Refused(); got != 1+16 {
		t.Errorf("%d retries were refused, want 17", got)
	}
	for range 1_000_000 {
		b.Deposit()
	}
	if got := b.Left(); got < 1000 || got >= 1001 {
		t.Errorf("%v retries are saved up, want 1000", got)
	}

	none := breaker.NewBudget(-1)
	none.Deposit()
	if none.Withdraw() {
		t.Error("a budget without retries allows one")
	}
	var nobody *breaker.Budget
	nobody.Deposit()
	if !nobody.Withdraw() || nobody.Left() != 0 || nobody.Refused() != 0 {
		t.Error("without a budget not every retry is allowed")
	}
}

// TestBudgetLoad holds what a budget is for: whatever comes, what arrives at the service is at most 1.2 times the calls,
// and 3.
func TestBudgetLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		b := breaker.NewBudget(0.2)
		calls, arrivals := 0, 0
		wasted := false
		for range rng.IntN(3000) {
			calls++
			arrivals++
			b.Deposit()
			for range rng.IntN(1 + rng.IntN(4)) {
				if !b.Withdraw() {
					// Nothing is held back that is due.
					wasted = wasted || float64(arrivals) < 1.2*float64(calls)+2-1e-6
					break
				}
				arrivals++
			}
			if float64(arrivals) > 1.2*float64(calls)+3+1e-6 {
				t.Fatalf("%d arrivals of %d calls", arrivals, calls)
			}
		}
		if wasted {
			t.Fatal("a retry was refused that was due")
		}
	}
}

func TestBudgetConcurrent(t *testing.T) {
	b := breaker.NewBudget(0.2)
	var retries atomic.Int64
	var all sync.WaitGroup
	const each, callers = 20_000, 8
	for range callers {
		all.Go(func() {
			for range each {
				b.Deposit()
				for range 2 {
					if b.Withdraw() {
						retries.Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	if got, want := retries.Load(), int64(each*callers/5+3); got != want {
		t.Errorf("%d retries of %d calls, want %d", got, each*callers, want)
	}
	if got := b.Left(); got != 0 {
		t.Errorf("%v retries are left", got)
	}
}

func BenchmarkBudget(b *testing.B) {
	b.Run("deposit", func(b *testing.B) {
		budget := breaker.NewBudget(1e-6) // never full
		for b.Loop() {
			budget.Deposit()
		}
	})
	b.Run("deposit, full", func(b *testing.B) {
		budget := breaker.NewBudget(1000)
		for b.Loop() {
			budget.Deposit()
		}
	})
	b.Run("withdraw", func(b *testing.B) {
		budget := breaker.NewBudget(1)
		for b.Loop() {
			budget.Deposit()
			budget.Withdraw()
		}
	})
}
