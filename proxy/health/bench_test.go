//go:build unix

package health

import (
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// cpu is what the process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProbe has one endpoint after the other probed by a server in another process, and tells the processor time of
// this one.
func BenchmarkProbe(b *testing.B) {
	at := startChild(b, "server").line(b)
	for _, c := range []struct {
		name string
		dial Dial
	}{
		{"grpc", func() (Prober, error) { return GRPC(at[0], GRPCCheck{}, nil) }},
		{"http", func() (Prober, error) { return HTTP(at[1], HTTPCheck{}, nil) }},
		{"tcp", func() (Prober, error) { return TCP(at[1], nil) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, err := c.dial()
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if err := p.Probe(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkEndpoints keeps thousands of endpoints probed once a second for a while, and tells what that takes.
func BenchmarkEndpoints(b *testing.B) {
	const endpoints, seconds = 5000, 5
	at := startChild(b, "server").line(b)
	for _, c := range []struct {
		name string
		dial Dial
	}{
		{"nothing", func() (Prober, error) { return Func(nothing, nil), nil }},
		{"grpc", func() (Prober, error) { return GRPC(at[0], GRPCCheck{}, nil) }},
		{"http", func() (Prober, error) { return HTTP(at[1], HTTPCheck{}, nil) }},
		{"tcp", func() (Prober, error) { return TCP(at[1], nil) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				used, routines := memory(), runtime.NumGoroutine()
				p := NewPool(quiet())
				for i := range endpoints {
					p.Watch(strconv.Itoa(i), Timing{}, c.dial, nil)
				}
				time.Sleep(2 * time.Second)
				before, probes := cpu(b), p.Stats().Probes
				time.Sleep(seconds * time.Second)
				took, asked := cpu(b)-before, p.Stats().Probes-probes
				s := p.Stats()
				if s.Up != endpoints {
					b.Errorf("want all endpoints up, found %+v", s)
				}
				b.ReportMetric(float64(took.Microseconds())/float64(asked), "cpu-µs/probe")
				b.ReportMetric(float64(asked)/endpoints/seconds, "probes/interval")
				b.ReportMetric(float64(memory()-used)/endpoints, "B/endpoint")
				b.ReportMetric(float64(runtime.NumGoroutine()-routines)/endpoints, "goroutines/endpoint")
				p.Close()
			}
		})
	}
}

// memory is what heap and stacks take once garbage is gone.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
