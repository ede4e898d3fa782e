package tars

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	tarsadapter "github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// appendEndpoint appends an EndpointF with the tag of an element.
func appendEndpoint(dst []byte, e *endpoint) []byte {
	dst = tarswire.AppendHead(dst, 0, tarswire.StructBegin)
	dst = tarswire.AppendString(dst, 0, e.host)
	dst = tarswire.AppendInt(dst, 1, e.port)
	dst = tarswire.AppendInt(dst, 2, 3000)
	dst = tarswire.AppendInt(dst, 3, e.proto)
	dst = tarswire.AppendInt(dst, 4, 0)
	dst = tarswire.AppendString(dst, 7, e.set)
	dst = tarswire.AppendInt(dst, 11, e.weight)
	dst = tarswire.AppendInt(dst, 12, e.weightType)
	dst = tarswire.AppendInt(dst, 13, 0)
	dst = tarswire.AppendString(dst, 14, e.subset)
	return tarswire.AppendHead(dst, 0, tarswire.StructEnd)
}

func appendList(dst []byte, tag uint8, list []endpoint) []byte {
	dst = tarswire.AppendInt(tarswire.AppendHead(dst, tag, tarswire.List), 0, int64(len(list)))
	for i := range list {
		dst = appendEndpoint(dst, &list[i])
	}
	return dst
}

// appendAnswer appends the body of an answer.
func appendAnswer(dst []byte, ret int64, active, inactive []endpoint) []byte {
	dst = tarswire.AppendInt(dst, 0, ret)
	return appendList(appendList(dst, 2, active), 3, inactive)
}

const queryObj = "tars.tarsregistry.QueryObj"

// server is a registry.
type server struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	active   []endpoint
	inactive []endpoint
	ret      int64
	asked    int
	ln       net.Listener // nil: away
	conns    []net.Conn
	all      sync.WaitGroup
}

func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{t: t, addr: "127.0.0.1:0"}
	s.come()
	t.Cleanup(s.leave)
	return s
}

func (s *server) come() {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr, s.ln = ln.Addr().String(), ln
	s.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.all.Go(func() { s.serve(c) })
			s.mu.Unlock()
		}
	})
}

func (s *server) leave() {
	s.mu.Lock()
	if s.ln != nil {
		s.ln.Close()
	}
	s.ln = nil
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns { // accepted meanwhile
		c.Close()
	}
	s.conns = nil
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[:])-4)
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		var q tarsadapter.Request
		if err := tarsadapter.ParseRequest(&q, frame); err != nil {
			s.t.Error(err)
			return
		}
		in := tarswire.NewReader(q.Body)
		tag, t := in.Head()
		if name := string(in.Bytes(t)); string(q.Servant) != queryObj || string(q.Function) != "findObjectById4Any" || tag != 1 || in.More() || name != "App.Server.Obj" && name != "orders.orders.Obj" {
			s.t.Errorf("found %s %s(%q at %d)", q.Servant, q.Function, name, tag)
		}
		s.mu.Lock()
		s.asked++
		r := tarsadapter.Response{Version: q.Version, ID: q.ID, Body: appendAnswer(nil, s.ret, s.active, s.inactive)}
		s.mu.Unlock()
		out := tarsadapter.AppendResponse(make([]byte, 4), &r)
		binary.BigEndian.PutUint32(out, uint32(len(out)))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// set makes the servant have these instances.
func (s *server) set(active, inactive []endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active, s.inactive = active, inactive
}

func opened(t testing.TB, addresses ...string) *Registry {
	t.Helper()
	l := Locator{Servant: queryObj}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, Address{At: a})
	}
	r, err := Open(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func overTCPAt(addresses ...string) []endpoint {
	var list []endpoint
	for _, a := range addresses {
		host, _, _ := strings.Cut(a, ":")
		list = append(list, endpoint{host: host, port: 1, proto: overTCP})
	}
	return list
}

// named asks for orders by the name that a servant has.
type named struct{ *Resolver }

func (n named) Watch(ctx context.Context, service string, to registry.Sink) error {
	return n.Resolver.Watch(ctx, service+".orders.Obj", renamed{to, service})
}

type renamed struct {
	registry.Sink
	service string
}

func (r renamed) Update(s registry.Set) {
	s.Service = r.service
	r.Sink.Update(s)
}

func TestResolver(t *testing.T) {
	registrytest.Run(t, func(t *testing.T, addresses ...string) registry.Resolver {
		s := startServer(t)
		s.set(overTCPAt(addresses...), nil)
		return named{&Resolver{Registry: opened(t, s.addr), Interval: 20 * time.Millisecond}}
	})
	registrytest.RunChanging(t, func(t *testing.T) registrytest.Registry {
		s := startServer(t)
		return registrytest.Registry{
			Resolver: named{&Resolver{Registry: opened(t, s.addr), Interval: 20 * time.Millisecond, Timeout: 10 * time.Second}},
			Set:      func(addresses ...string) { s.set(overTCPAt(addresses...), nil) },
			Lose:     s.leave, Return: s.come,
		}
	})
}

func TestEndpoints(t *testing.T) {
	at := func(host string, proto, weight, weightType int64) endpoint {
		return endpoint{host: host, port: 10015, proto: proto, weight: weight, weightType: weightType}
	}
	up := func(host string, weight uint32) registry.Endpoint {
		return registry.Endpoint{ID: host + ":10015", Address: host + ":10015", Weight: weight, Protocol: "tars"}
	}
	tls := up("s", 100)
	tls.TLS = true
	down := up("d", 0)
	down.Status = registry.Down
	set := up("m", 100)
	set.Meta = map[string]string{"set": "app.sz.1", "subset": "v2"}
	for name, tc := range map[string]struct {
		active, inactive []endpoint
		want             []registry.Endpoint
		skipped          int
	}{
		"all alike":                {[]endpoint{at("a", 1, 7, 0), at("b", 1, -1, 0)}, nil, []registry.Endpoint{up("a", 100), up("b", 100)}, 0},
		"weights":                  {[]endpoint{at("a", 1, 7, 1), at("b", 1, 0, 1), at("c", 1, 1<<30, 1)}, nil, []registry.Endpoint{up("a", 7), up("b", 0), up("c", 10_000)}, 0},
		"one without a weight":     {[]endpoint{at("a", 1, 7, 1), at("b", 1, 7, 0)}, nil, []registry.Endpoint{up("a", 100), up("b", 100)}, 0},
		"udp is left out":          {[]endpoint{at("a", 1, 7, 1), at("a", 0, -1, 0)}, nil, []registry.Endpoint{up("a", 7)}, 0},
		"ssl":                      {[]endpoint{at("s", 2, 0, 0)}, nil, []registry.Endpoint{tls}, 0},
		"a protocol of the future": {[]endpoint{at("a", 9, 0, 0)}, nil, []registry.Endpoint{}, 1},
		"inactive":                 {[]endpoint{at("a", 1, 0, 0)}, []endpoint{at("d", 1, 9, 1)}, []registry.Endpoint{up("a", 100), down}, 0},
		"active is what it is":     {[]endpoint{at("a", 1, 0, 0), at("a", 1, 0, 0)}, []endpoint{at("a", 1, 0, 0)}, []registry.Endpoint{up("a", 100)}, 0},
		"sets":                     {[]endpoint{{host: "m", port: 10015, proto: 1, set: "app.sz.1", subset: "v2"}}, nil, []registry.Endpoint{set}, 0},
		"no host, no port":         {[]endpoint{at("", 1, 0, 0), at("a b", 1, 0, 0), {host: "a", proto: 1}, {host: "a", port: 65536, proto: 1}}, nil, []registry.Endpoint{}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var a answer
			if err := a.parse(appendAnswer(nil, 0, tc.active, tc.inactive), 100); err != nil {
				t.Fatal(err)
			}
			got := a.endpoints()
			if diff := cmp.Diff(tc.want, got); diff != "" || a.skipped != tc.skipped {
				t.Errorf("skipped %d, want %d (-want +got):\n%s", a.skipped, tc.skipped, diff)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	long := appendAnswer(nil, 0, slices.Repeat(overTCPAt("a:1"), 11), nil)
	for name, tc := range map[string]struct {
		body []byte
		want string
	}{
		"nothing":         {nil, "lacks its return value"},
		"a code":          {appendAnswer(nil, -1, nil, nil), "the registry says -1"},
		"too many":        {long, "at most 10 instances"},
		"a cut":           {long[:20], "the answer: "},
		"a lying number":  {tarswire.AppendInt(tarswire.AppendHead([]byte{0x0c}, 2, tarswire.List), 0, 1<<30), "elements that the data can hold"},
		"a wide return":   {tarswire.AppendInt(nil, 0, 1<<40), "integer of type INT"},
		"no end":          {append(tarswire.AppendInt(tarswire.AppendHead([]byte{0x0c}, 2, tarswire.List), 0, 2), 0x0a, 0x06), ""},
		"deeper and more": {append([]byte{0x0c}, slices.Repeat([]byte{0x5a}, 5000)...), "the answer: "},
	} {
		t.Run(name, func(t *testing.T) {
			var a answer
			if err := a.parse(tc.body, 10); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q, found %v", tc.want, err)
			}
		})
	}
}

// One of two addresses is enough, whichever it is.
func TestSecondAddress(t *testing.T) {
	first, second := startServer(t), startServer(t)
	for _, s := range []*server{first, second} {
		s.set(overTCPAt("a:1"), nil)
	}
	sink, stop := registrytest.Watch(t, &Resolver{Registry: opened(t, first.addr, second.addr), Interval: 20 * time.Millisecond, Timeout: 10 * time.Second}, "App.Server.Obj")
	t.Cleanup(func() { _ = stop() }) // the context's error
	sink.Wait("a:1")
	first.leave()
	second.set(overTCPAt("b:1"), nil)
	sink.Wait("b:1")
	first.come()
	second.leave()
	first.set(overTCPAt("c:1"), nil)
	sink.Wait("c:1")
}

// A registry that answers with a code is away, and what it said before stays.
func TestRefusal(t *testing.T) {
	s := startServer(t)
	s.set(overTCPAt("a:1"), nil)
	sink, stop := registrytest.Watch(t, &Resolver{Registry: opened(t, s.addr), Interval: 20 * time.Millisecond}, "App.Server.Obj")
	t.Cleanup(func() { _ = stop() }) // the context's error
	sink.Wait("a:1")
	s.mu.Lock()
	s.ret = -1
	s.mu.Unlock()
	if err := sink.WaitFail(); !strings.Contains(err.Error(), "tars: App.Server.Obj: ") || sink.Emptied() != 0 {
		t.Errorf("found %v", err)
	}
}

// What a registry says does not lead to where only the gateway can go.
func TestAllow(t *testing.T) {
	s := startServer(t)
	s.set(overTCPAt("10.0.0.1:1", "192.168.0.1:1", "169.254.169.254:80", "kit.internal:1"), nil)
	sink, stop := registrytest.Watch(t, &Resolver{Registry: opened(t, s.addr)}, "App.Server.Obj")
	t.Cleanup(func() { _ = stop() }) // the context's error
	if set := sink.Wait("10.0.0.1:1", "192.168.0.1:1", "kit.internal:1"); set.Skipped != 1 {
		t.Errorf("want one skipped, found %d", set.Skipped)
	}
	within, stop2 := registrytest.Watch(t, &Resolver{Registry: opened(t, s.addr), Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, "App.Server.Obj")
	t.Cleanup(func() { _ = stop2() }) // the context's error
	if set := within.Wait("10.0.0.1:1"); set.Skipped != 3 {
		t.Errorf("want three skipped, found %d", set.Skipped)
	}
}

func TestServantNames(t *testing.T) {
	for _, name := range []string{"", "orders", "App.Server", "App..Obj", "App.Server.Obj@tcp -h a -p 1"} {
		if err := (&Resolver{}).Watch(t.Context(), name, nil); err == nil || !strings.Contains(err.Error(), "servant of three names") {
			t.Errorf("%q: found %v", name, err)
		}
	}
}

func TestLocators(t *testing.T) {
	for text, want := range map[string]any{
		"tars.tarsregistry.QueryObj@tcp -h 10.0.0.5 -p 17890":         []string{"10.0.0.5:17890"},
		" a.b.c @tcp -h h -p 1 -t 60000:tcp -t 3000 -p 2 -h ::1 -g 0": []string{"h:1", "[::1]:2"},
		"a.b.c@tcp -h h -p 1 : tcp -h i -p 2":                         []string{"h:1", "i:2"},
		"a.b.c@tcp -h h -p 1 x":                                       `found "x"`,
		"a.b.c@tcp -h h -p 1: tcp -h i -p 2":                          []string{"h:1", "i:2"},
		"a.b.c":                                                       "a servant and its endpoints",
		"a.b.c@":                                                      "a servant and its endpoints",
		"@tcp -h h -p 1":                                              "a servant and its endpoints",
		"a.b@tcp -h h -p 1":                                           "three names",
		"a.b.c@udp -h h -p 1":                                         `found "udp"`,
		"a.b.c@tcp -h h -p 1:ssl -h h -p 2":                           []string{"h:1", "ssl h:2"},
		"a.b.c@ssl -h ::1 -p 1 -t 3 : tcp -h h -p 2":                  []string{"ssl [::1]:1", "h:2"},
		"a.b.c@ssl -h h -p 1:udp -h h -p 2":                           `found "udp"`,
		"a.b.c@tcp -p 1":                                              "-h HOST",
		"a.b.c@tcp -h h -p 65536":                                     "-p PORT",
		"a.b.c@tcp -h h -p 0":                                         "-p PORT",
		"a.b.c@tcp -h h -p":                                           "-p PORT",
	} {
		l, err := ParseLocator(text)
		switch want := want.(type) {
		case []string:
			var got []string
			for _, a := range l.Addresses {
				if a.TLS {
					a.At = "ssl " + a.At
				}
				got = append(got, a.At)
			}
			if err != nil || !slices.Equal(got, want) || l.Secure() != strings.Contains(text, "ssl") {
				t.Errorf("%q: want %q, found %q %v", text, want, got, err)
			}
		case string:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: want %q, found %v %v", text, want, l.Addresses, err)
			}
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, 0, overTCPAt("a:1", "b:1"), overTCPAt("c:1")))
	f.Add(appendAnswer(nil, 0, []endpoint{{host: "a", port: 1, proto: 2, set: "x.y.z", weight: 3, weightType: 1}}, nil))
	f.Add(appendAnswer(nil, -1, nil, nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 50
		var a answer
		if a.parse(body, most) != nil {
			return
		}
		endpoints := a.endpoints()
		if len(endpoints) > most {
			t.Errorf("want at most %d endpoints, found %d", most, len(endpoints))
		}
		for _, e := range endpoints {
			if _, _, err := net.SplitHostPort(e.Address); err != nil || e.ID != e.Address || e.Weight > maxWeight || e.Status != registry.Up && e.Weight != 0 {
				t.Errorf("found %+v", e)
			}
		}
		// What was read reads the same once it is written anew.
		var again answer
		if err := again.parse(appendAnswer(nil, 0, a.active, a.inactive), most); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(endpoints, again.endpoints()); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
		if _, err := registry.NewSet("s", 1, endpoints); err != nil {
			t.Error(err)
		}
	})
}

func FuzzLocator(f *testing.F) {
	f.Add("tars.tarsregistry.QueryObj@tcp -h 10.0.0.5 -p 17890:tcp -h ::1 -p 17891 -t 60000")
	f.Add("tars.tarsregistry.QueryObj@tcp -h 10.0.0.5 -p 17890:tcp -h ::1[ -p 17891")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLocator(text)
		if err != nil {
			return
		}
		for _, a := range l.Addresses {
			if _, _, err := net.SplitHostPort(a.At); err != nil {
				t.Errorf("%q: %+v: %v", text, a, err)
			}
		}
	})
}
