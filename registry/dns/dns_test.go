package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers every question with the same records.
type server struct {
	t    testing.TB
	addr string

	mu      sync.Mutex
	code    dnsmessage.RCode
	silent  bool
	records []dnsmessage.ResourceBody
	asked   []string
}

func startServer(t testing.TB) *server {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, addr: pc.LocalAddr().String(), code: dnsmessage.RCodeNameError}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := s.answer(buf[:n]); out != nil {
				pc.WriteTo(out, from) //nolint:errcheck // the client asks again
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return s
}

func (s *server) answer(question []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		s.t.Errorf("want one question, found %v %v", m, err)
		return nil
	}
	if s.silent {
		return nil
	}
	q := m.Questions[0]
	s.asked = append(s.asked, q.Name.String())
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RCode: s.code, RecursionAvailable: true}, Questions: m.Questions}
	for _, body := range s.records {
		kind := dnsmessage.TypeSRV
		switch body.(type) {
		case *dnsmessage.AResource:
			kind = dnsmessage.TypeA
		case *dnsmessage.AAAAResource:
			kind = dnsmessage.TypeAAAA
		}
		if kind == q.Type {
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: kind, Class: q.Class}, Body: body})
		}
	}
	b, err := out.Pack()
	if err != nil {
		s.t.Error(err)
	}
	return b
}

func (s *server) set(code dnsmessage.RCode, records ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.records = code, records
}

func (s *server) mute(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
}

func srv(t testing.TB, address string, priority, weight uint16) dnsmessage.ResourceBody {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: uint16(n), Target: dnsmessage.MustNewName(strings.TrimSuffix(host, ".") + ".")}
}

// kind is a way to find instances: by SRV records, or by addresses, which the suite knows as letters.
type kind struct {
	target  string
	records func(t testing.TB, addresses []string) []dnsmessage.ResourceBody
	rename  func(address string) string
}

var kinds = map[string]kind{
	"SRV": {
		"_grpc._tcp.orders.test.",
		func(t testing.TB, addresses []string) (all []dnsmessage.ResourceBody) {
			for _, a := range addresses {
				all = append(all, srv(t, a, 1, 2))
			}
			return all
		},
		func(a string) string { return a },
	},
	"A": {
		"orders.test.:1",
		func(_ testing.TB, addresses []string) (all []dnsmessage.ResourceBody) {
			for _, a := range addresses {
				all = append(all, &dnsmessage.AResource{A: [4]byte{10, 0, 0, a[0]}})
			}
			return all
		},
		func(a string) string {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(a, "10.0.0."), ":1"))
			return string(rune(n)) + ":1"
		},
	},
}

// renamed shows addresses as the suite knows them.
type renamed struct {
	registry.Resolver
	rename func(string) string
}

type renamedSink struct {
	registry.Sink
	rename func(string) string
}

func (r renamed) Watch(ctx context.Context, service string, to registry.Sink) error {
	return r.Resolver.Watch(ctx, service, renamedSink{to, r.rename})
}

func (r renamedSink) Update(s registry.Set) {
	for i := range s.Endpoints {
		s.Endpoints[i].Address = r.rename(s.Endpoints[i].Address)
	}
	r.Sink.Update(s)
}

func TestResolver(t *testing.T) {
	for name, k := range kinds {
		resolver := func(s *server) registry.Resolver {
			return renamed{&Resolver{
				Server: s.addr, Interval: 5 * time.Millisecond, Timeout: 200 * time.Millisecond,
				Target: func(string) (string, error) { return k.target, nil },
			}, k.rename}
		}
		t.Run(name, func(t *testing.T) {
			registrytest.Run(t, func(t *testing.T, addresses ...string) registry.Resolver {
				s := startServer(t)
				s.set(dnsmessage.RCodeSuccess, k.records(t, addresses)...)
				return resolver(s)
			})
			registrytest.RunChanging(t, func(t *testing.T) registrytest.Registry {
				s := startServer(t)
				return registrytest.Registry{
					Resolver: resolver(s),
					Set: func(addresses ...string) {
						code := dnsmessage.RCodeSuccess
						if len(addresses) == 0 {
							code = dnsmessage.RCodeNameError
						}
						s.set(code, k.records(t, addresses)...)
					},
					Lose:   func() { s.mute(true) },
					Return: func() { s.mute(false) },
				}
			})
		})
	}
}

func TestRecords(t *testing.T) {
	s := startServer(t)
	s.set(dnsmessage.RCodeSuccess, srv(t, "b:2", 2, 0), srv(t, "a:1", 1, 50), srv(t, "a:1", 1, 50), srv(t, ".:7", 0, 0))
	sink, stop := registrytest.Watch(t, &Resolver{Server: s.addr, Interval: time.Hour}, "_grpc._tcp.orders.test.")
	defer stop() //nolint:errcheck // the context's error
	set := sink.Wait("a:1", "b:2")
	want := []registry.Endpoint{
		{ID: "a:1", Address: "a:1", Weight: 50, Meta: map[string]string{"priority": "1"}},
		{ID: "b:2", Address: "b:2", Weight: 1, Meta: map[string]string{"priority": "2"}},
	}
	if d := cmp.Diff(want, set.Endpoints); d != "" {
		t.Errorf("endpoints (-want +got):\n%s", d)
	}
}

func TestAddresses(t *testing.T) {
	s := startServer(t)
	six := &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}}
	s.set(dnsmessage.RCodeSuccess, &dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}, six)
	for network, want := range map[string][]string{"": {"10.0.0.1:9", "[2001:db8::1]:9"}, "ip4": {"10.0.0.1:9"}, "ip6": {"[2001:db8::1]:9"}} {
		sink, stop := registrytest.Watch(t, &Resolver{Server: s.addr, Network: network}, "orders.test.:9")
		sink.Wait(want...)
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.asked, "orders.test.") {
		t.Errorf("want the name asked for, found %v", s.asked)
	}
}

func TestFailures(t *testing.T) {
	s := startServer(t)
	s.set(dnsmessage.RCodeServerFailure)
	sink, stop := registrytest.Watch(t, &Resolver{Server: s.addr, Interval: 5 * time.Millisecond, Most: 1}, "_grpc._tcp.orders.test.")
	defer stop() //nolint:errcheck // the context's error
	if err := sink.WaitFail(); !strings.HasPrefix(err.Error(), "dns: _grpc._tcp.orders.test.: ") {
		t.Errorf("want the service named, found %v", err)
	}
	s.set(dnsmessage.RCodeSuccess, srv(t, "a:1", 1, 1))
	sink.Wait("a:1")
	s.set(dnsmessage.RCodeSuccess, srv(t, "a:1", 1, 1), srv(t, "b:1", 1, 1))
	if err := sink.WaitFail(); !strings.Contains(err.Error(), "want at most 1 instances, found 2") {
		t.Errorf("want the limit named, found %v", err)
	}
}

func TestTargetsAreChecked(t *testing.T) {
	for _, target := range []string{"", ":1", "a:0", "a:x", "a:1:2", "a b", "a/b", strings.Repeat("x", 255)} {
		err := (&Resolver{}).Watch(context.Background(), target, registrytest.NewSink(t))
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("dns: %s: ", target)) {
			t.Errorf("%q: want it refused, found %v", target, err)
		}
	}
	refuse := errors.New("unknown")
	if err := (&Resolver{Target: func(string) (string, error) { return "", refuse }}).Watch(context.Background(), "x", registrytest.NewSink(t)); !errors.Is(err, refuse) {
		t.Errorf("want the target's error, found %v", err)
	}
}
