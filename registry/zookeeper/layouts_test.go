package zookeeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
)

// What programs of others write, as their sources have it.
const (
	dubboProvider = "dubbo://10.0.0.1:20880/com.example.Foo?anyhost=true&application=orders&deprecated=false&dubbo=2.0.2&dynamic=true&generic=false&group=g&interface=com.example.Foo&methods=a,b&pid=1&release=3.2.0&side=provider&timestamp=1700000000000&version=1.0.0&weight=50"
	springJSON    = `{"name":"orders","id":"cf6cbe3f-4b1a-4b4e-8c0c-1b7f0c7b1a11","address":"orders-1.local","port":8080,"sslPort":null,` +
		`"payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"application-1","name":"orders","metadata":{"instance_status":"UP","version":"2"}},` +
		`"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false}]}}`
	dubboAppJSON = `{"name":"orders","id":"10.0.0.1:20880","address":"10.0.0.1","port":20880,"sslPort":null,` +
		`"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","id":"10.0.0.1:20880","name":"orders","metadata":{"dubbo.endpoints":"[{\"port\":20880,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]","dubbo.metadata.revision":"8a3b","dubbo.metadata.storage-type":"local"}},` +
		`"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":null,"enabled":true}`
	dubboGoJSON = `{"name":"orders","id":"10.0.0.2:20000","address":"10.0.0.2","port":20000,` +
		`"payload":{"id":"10.0.0.2:20000","name":"orders","metadata":{"dubbo.endpoints":"[{\"port\":20000,\"protocol\":\"tri\"}]"}},"registrationTimeUTC":1700000000000,"tag":""}`
	kratosJSON = `{"id":"3e8d1c1a","name":"orders","version":"v1.2","metadata":{"weight":"10"},"endpoints":["http://10.0.0.1:8000?isSecure=false","grpc://10.0.0.1:9000?isSecure=false"]}`
	seedJSON   = `[{"host":"127.0.0.1","port":1980,"weight":100},{"host":"127.0.0.1","port":1981,"weight":0,"metadata":{"v":"2"}}]`
)

func generic(t *testing.T, cfg GenericConfig) *Generic {
	t.Helper()
	g, err := NewGeneric(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestLayouts(t *testing.T) {
	kitex := generic(t, GenericConfig{Path: "/{service}", Name: `^(?P<host>.+):(?P<port>\d+)$`, Pointers: map[string]string{"weight": "/Weight", "version": "/Tags/version"}, Verified: true})
	rpcx := generic(t, GenericConfig{Path: "/rpcx/{service}", Name: `^(?P<protocol>\w+)@(?P<address>.+)$`, Data: `^(?:weight=(?P<weight>\d+))?.*?(?:state=(?P<status>\w+))?$`, Up: []string{""}, Verified: true})
	shenyu := generic(t, GenericConfig{
		Path: "/shenyu/register/instance/{service}", Verified: true, Up: []string{"0"},
		Pointers: map[string]string{"host": "/host", "port": "/port", "weight": "/weight", "status": "/status"},
	})
	armeria := generic(t, GenericConfig{Path: "/armeria/{service}", Data: `^(?P<address>[^:]+:\d+)(?::(?P<weight>\d+))?$`, Verified: true})
	lines := generic(t, GenericConfig{Path: "/lines/{service}", Leaf: true, Data: `^(?P<address>\S+)$`})
	for name, tc := range map[string]struct {
		layout             Layout
		service, node, raw string
		place              Place
		want               []registry.Endpoint
	}{
		"dubbo interface": {
			Dubbo{},
			"com.example.Foo", url.QueryEscape(dubboProvider), "10.0.0.1",
			Place{Path: "/dubbo/com.example.Foo/providers", Name: true},
			[]registry.Endpoint{{ID: "dubbo://10.0.0.1:20880/g:1.0.0", Address: "10.0.0.1:20880", Weight: 50, Protocol: "dubbo", Meta: map[string]string{"group": "g", "version": "1.0.0", "application": "orders", "release": "3.2.0"}}},
		},
		"dubbo, the version asked for": {
			Dubbo{Root: "/other"},
			"g/com.example.Foo:1.0.0", url.QueryEscape(dubboProvider), "",
			Place{Path: "/other/com.example.Foo/providers", Name: true},
			[]registry.Endpoint{{ID: "dubbo://10.0.0.1:20880/g:1.0.0", Address: "10.0.0.1:20880", Weight: 50, Protocol: "dubbo", Meta: map[string]string{"group": "g", "version": "1.0.0", "application": "orders", "release": "3.2.0"}}},
		},
		"dubbo, another version":  {Dubbo{}, "com.example.Foo:2.0.0", url.QueryEscape(dubboProvider), "", Place{Path: "/dubbo/com.example.Foo/providers", Name: true}, nil},
		"dubbo, another protocol": {Dubbo{Protocols: []string{"tri"}}, "com.example.Foo", url.QueryEscape(dubboProvider), "", Place{Path: "/dubbo/com.example.Foo/providers", Name: true}, nil},
		"dubbo, empty":            {Dubbo{}, "com.example.Foo", url.QueryEscape("empty://10.0.0.1/com.example.Foo?category=providers"), "", Place{Path: "/dubbo/com.example.Foo/providers", Name: true}, nil},
		"dubbo, switched off, static": {
			Dubbo{},
			"com.example.Foo$Bar", url.QueryEscape("tri://[2001:db8::1]:50051/com.example.Foo$Bar?dynamic=false&disabled=true"), "",
			Place{Path: "/dubbo/com.example.Foo%24Bar/providers", Name: true},
			[]registry.Endpoint{{ID: "tri://[2001:db8::1]:50051", Address: "[2001:db8::1]:50051", Weight: 100, Status: registry.Down, Protocol: "triple", Unverified: true}},
		},
		"spring": {
			Curator{},
			"orders", "cf6cbe3f-4b1a-4b4e-8c0c-1b7f0c7b1a11", springJSON,
			Place{Path: "/services/orders"},
			[]registry.Endpoint{{ID: "orders-1.local:8080", Address: "orders-1.local:8080", Weight: 100, Meta: map[string]string{"version": "2"}}},
		},
		"spring, out of service": {
			Curator{},
			"orders", "x", strings.Replace(springJSON, `"UP"`, `"OUT_OF_SERVICE"`, 1),
			Place{Path: "/services/orders"},
			[]registry.Endpoint{{ID: "orders-1.local:8080", Address: "orders-1.local:8080", Weight: 100, Status: registry.Down, Meta: map[string]string{"version": "2"}}},
		},
		"spring over TLS, static, switched off": {
			Curator{},
			"orders", "x", `{"address":"a","sslPort":443,"serviceType":"STATIC","enabled":false,"payload":"text"}`,
			Place{Path: "/services/orders"},
			[]registry.Endpoint{{ID: "a:443", Address: "a:443", TLS: true, Weight: 100, Status: registry.Down, Unverified: true}},
		},
		"dubbo application": {
			Curator{Protocols: []string{"tri"}},
			"orders", "10.0.0.1:20880", dubboAppJSON,
			Place{Path: "/services/orders"},
			[]registry.Endpoint{{ID: "10.0.0.1:50051", Address: "10.0.0.1:50051", Weight: 100, Protocol: "triple", Meta: map[string]string{"dubbo.metadata.revision": "8a3b", "dubbo.metadata.storage-type": "local"}}},
		},
		"dubbo-go application": {
			Curator{},
			"orders", "10.0.0.2:20000", dubboGoJSON,
			Place{Path: "/services/orders"},
			[]registry.Endpoint{{ID: "10.0.0.2:20000", Address: "10.0.0.2:20000", Weight: 100, Protocol: "triple"}},
		},
		"dubbo application, another protocol": {Curator{Protocols: []string{"rest"}}, "orders", "x", dubboAppJSON, Place{Path: "/services/orders"}, nil},
		"kratos": {
			Kratos{},
			"orders", "3e8d1c1a", kratosJSON,
			Place{Path: "/microservices/orders"},
			[]registry.Endpoint{{ID: "3e8d1c1a", Address: "10.0.0.1:9000", Weight: 10, Protocol: "grpc", Meta: map[string]string{"version": "v1.2"}}},
		},
		"kratos, over TLS": {
			Kratos{Protocols: []string{"http"}},
			"orders", "3e8d1c1a", strings.Replace(kratosJSON, "8000?isSecure=false", "8000?isSecure=true", 1),
			Place{Path: "/microservices/orders"},
			[]registry.Endpoint{{ID: "3e8d1c1a", Address: "10.0.0.1:8000", Weight: 10, Protocol: "http", TLS: true, Meta: map[string]string{"version": "v1.2"}}},
		},
		"kratos, another protocol": {Kratos{Protocols: []string{"tars"}}, "orders", "3e8d1c1a", kratosJSON, Place{Path: "/microservices/orders"}, nil},
		"apisix-seed": {
			Seed{},
			"orders", "", seedJSON,
			Place{Path: "/zookeeper/orders", Leaf: true},
			[]registry.Endpoint{
				{ID: "127.0.0.1:1980", Address: "127.0.0.1:1980", Weight: 100, Unverified: true},
				{ID: "127.0.0.1:1981", Address: "127.0.0.1:1981", Unverified: true, Meta: map[string]string{"v": "2"}},
			},
		},
		"kitex": {
			kitex, "orders", "10.0.0.1:8888", `{"Weight":10,"Tags":{"version":"3"}}`,
			Place{Path: "/orders"},
			[]registry.Endpoint{{ID: "10.0.0.1:8888", Address: "10.0.0.1:8888", Weight: 10, Meta: map[string]string{"version": "3"}}},
		},
		"rpcx": {
			rpcx, "Arith", "tcp@127.0.0.1:8972", "weight=7&group=a",
			Place{Path: "/rpcx/Arith"},
			[]registry.Endpoint{{ID: "tcp@127.0.0.1:8972", Address: "127.0.0.1:8972", Weight: 7, Protocol: "tcp"}},
		},
		"rpcx, inactive": {
			rpcx, "Arith", "tcp@127.0.0.1:8972", "weight=7&state=inactive",
			Place{Path: "/rpcx/Arith"},
			[]registry.Endpoint{{ID: "tcp@127.0.0.1:8972", Address: "127.0.0.1:8972", Weight: 7, Status: registry.Down, Protocol: "tcp"}},
		},
		"shenyu": {
			shenyu, "orders", "10.0.0.1:8080", `{"appName":"orders","host":"10.0.0.1","port":8080,"uri":"http://10.0.0.1:8080","status":0,"weight":5}`,
			Place{Path: "/shenyu/register/instance/orders"},
			[]registry.Endpoint{{ID: "10.0.0.1:8080", Address: "10.0.0.1:8080", Weight: 5}},
		},
		"armeria": {
			armeria, "orders", "a1", "foo.com:8080:30",
			Place{Path: "/armeria/orders"},
			[]registry.Endpoint{{ID: "a1", Address: "foo.com:8080", Weight: 30}},
		},
		"lines": {
			lines, "orders", "", "a:1\n\nb:2\n",
			Place{Path: "/lines/orders", Leaf: true},
			[]registry.Endpoint{{ID: "a:1", Address: "a:1", Weight: 100, Unverified: true}, {ID: "b:2", Address: "b:2", Weight: 100, Unverified: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			places, err := tc.layout.Places(tc.service)
			if d := cmp.Diff([]Place{tc.place}, places); d != "" || err != nil {
				t.Errorf("places: %v (-want +got):\n%s", err, d)
			}
			got, err := tc.layout.Parse(tc.service, tc.place, tc.node, []byte(tc.raw))
			if _, other := errors.AsType[*otherProtocol](err); other == strings.Contains(name, "another protocol") {
				err = nil
			} else {
				t.Errorf("want another protocol told as such, found %v", err)
			}
			if d := cmp.Diff(tc.want, got); d != "" || err != nil {
				t.Errorf("endpoints: %v (-want +got):\n%s", err, d)
			}
			if _, err := tc.layout.Places("a\x00"); err == nil {
				t.Error("want a service's name with control characters refused")
			}
		})
	}
}

func TestLayoutsRefuse(t *testing.T) {
	kitex := generic(t, GenericConfig{Path: "/{service}", Name: `^(?P<host>.+):(?P<port>\d+)$`, Pointers: map[string]string{"weight": "/Weight"}})
	for name, tc := range map[string]struct {
		layout    Layout
		node, raw string
		want      string
	}{
		"dubbo: no URL":              {Dubbo{}, "%zz", "", "encoded once"},
		"dubbo: no protocol":         {Dubbo{}, "10.0.0.1", "", "with its protocol"},
		"dubbo: no port":             {Dubbo{}, url.QueryEscape("dubbo://10.0.0.1/com.x.Foo"), "", "port within 1 to 65535"},
		"dubbo: another's interface": {Dubbo{}, url.QueryEscape("dubbo://10.0.0.1:1/x?interface=com.x.Bar"), "", "com.x.Bar"},
		"dubbo: weight":              {Dubbo{}, url.QueryEscape("dubbo://10.0.0.1:1/x?weight=-1"), "", `found "-1"`},
		"curator: no JSON":           {Curator{}, "x", "127.0.0.1", "want JSON"},
		"curator: no port":           {Curator{}, "x", `{"address":"a"}`, "want a port or an sslPort"},
		"curator: no address":        {Curator{}, "x", `{"port":1}`, "want a host"},
		"curator: endpoints":         {Curator{}, "x", `{"address":"a","port":1,"payload":{"metadata":{"dubbo.endpoints":"x"}}}`, "dubbo.endpoints"},
		"kratos: no JSON":            {Kratos{}, "x", "", "want JSON"},
		"kratos: no port":            {Kratos{}, "x", `{"endpoints":["grpc://a"]}`, "port within"},
		"seed: no list":              {Seed{}, "", `{}`, "want JSON"},
		"seed: a port":               {Seed{}, "", `[{"host":"a","port":0}]`, "entry 0: "},
		"generic: a name":            {kitex, "x", `{}`, "want what fits"},
		"generic: data":              {kitex, "a:1", ``, "want JSON"},
		"generic: a weight":          {kitex, "a:1", `{"Weight":1.5}`, `found "1.5"`},
		"too long":                   {Curator{}, "x", strings.Repeat(" ", maxForeign+1), "at most 262144 bytes"},
	} {
		eps, err := tc.layout.Parse("com.x.Foo", Place{Leaf: name[:4] == "seed"}, tc.node, []byte(tc.raw))
		if err == nil || !strings.Contains(err.Error(), tc.want) || len(eps) != 0 {
			t.Errorf("%s: want an error with %q, found %v and %v", name, tc.want, err, eps)
		}
	}
	eps, err := Seed{}.Parse("orders", Place{Leaf: true}, "", []byte(`[{"host":"a","port":1},{"host":"b"},7]`))
	if len(eps) != 1 || err == nil {
		t.Errorf("want the sound one of a list kept and the others told, found %v %v", eps, err)
	}
}

func TestGenericIsChecked(t *testing.T) {
	for want, cfg := range map[string]GenericConfig{
		"a path such as":       {Path: "/x", Name: `(?P<address>.*)`},
		"parsing regexp":       {Path: "/{service}", Name: `(`},
		"where address":        {Path: "/{service}", Name: `(?P<host>.*)`},
		`found "hots"`:         {Path: "/{service}", Name: `(?P<hots>.*):(?P<port>.*)`},
		"a JSON pointer":       {Path: "/{service}", Pointers: map[string]string{"address": "address"}},
		"found both":           {Path: "/{service}", Data: `(?P<address>.*)`, Pointers: map[string]string{"weight": "/w"}},
		"only where children":  {Path: "/{service}", Leaf: true, Name: `(?P<address>.*)`},
		"/registry/{service},": {Path: "/{service}/{service}", Name: `(?P<address>.*)`},
	} {
		if _, err := NewGeneric(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: want an error with %q, found %v", cfg, want, err)
		}
	}
}

// TestLayoutsResolve holds a resolver of each layout to the contract.
func TestLayoutsResolve(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side := plain(t, addr)
	for name, l := range map[string]struct {
		layout func(root string) Layout
		entry  func(address string) (node, data string)
		leaf   bool
	}{
		"dubbo": {
			func(root string) Layout { return Dubbo{Root: root} },
			func(a string) (string, string) {
				return url.QueryEscape("dubbo://" + a + "/orders?interface=orders&timestamp=1"), "x"
			}, false,
		},
		"curator": {
			func(root string) Layout { return Curator{Root: root} },
			func(a string) (string, string) {
				host, port, _ := net.SplitHostPort(a)
				return a, fmt.Sprintf(`{"address":%q,"port":%s}`, host, port)
			}, false,
		},
		"seed": {
			func(root string) Layout { return Seed{Root: root} },
			func(a string) (string, string) {
				host, port, _ := net.SplitHostPort(a)
				return "", fmt.Sprintf(`{"host":%q,"port":%s}`, host, port)
			}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			registrytest.RunChanging(t, func(t *testing.T) registrytest.Registry {
				n++
				root := "/" + name + strconv.Itoa(n)
				layout := l.layout(root)
				places, err := layout.Places("orders")
				if err != nil {
					t.Fatal(err)
				}
				g := startGate(t, addr)
				return registrytest.Registry{
					Resolver: &Resolver{Conn: connect(t, Config{Servers: []string{g.addr()}, Session: 300 * time.Millisecond}), Layout: layout},
					Lose:     func() { g.set(refuse) },
					Return:   func() { g.set(pass) },
					Set: func(addresses ...string) {
						if l.leaf {
							var all []string
							for _, a := range addresses {
								_, data := l.entry(a)
								all = append(all, data)
							}
							put(t, side, places[0].Path, "["+strings.Join(all, ",")+"]")
							return
						}
						mkdir(t, side, places[0].Path)
						old, _, err := side.Children(places[0].Path)
						if err != nil {
							t.Fatal(err)
						}
						var ops []any
						for _, name := range old {
							ops = append(ops, &zk.DeleteRequest{Path: places[0].Path + "/" + name, Version: -1})
						}
						for _, a := range addresses {
							node, data := l.entry(a)
							ops = append(ops, &zk.CreateRequest{Path: places[0].Path + "/" + node, Data: []byte(data), Acl: zk.WorldACL(zk.PermAll)})
						}
						if _, err := side.Multi(ops...); err != nil {
							t.Fatal(err)
						}
					},
				}
			})
		})
	}
}

// FuzzEndpoint reads names and data of all layouts: whatever is accepted is an endpoint that can be dialled.
func FuzzEndpoint(f *testing.F) {
	kitex, err := NewGeneric(GenericConfig{Path: "/{service}", Name: `^(?P<host>.+):(?P<port>\d+)$`, Pointers: map[string]string{"weight": "/Weight", "status": "/s/0"}})
	if err != nil {
		f.Fatal(err)
	}
	lines, err := NewGeneric(GenericConfig{Path: "/{service}", Leaf: true, Data: `^(?P<address>[^ ]+) ?(?P<weight>.*)$`})
	if err != nil {
		f.Fatal(err)
	}
	layouts := []Layout{Native{}, Dubbo{}, Curator{}, Kratos{}, Seed{}, kitex, lines}
	f.Add(uint8(0), "10.0.3.7-9000", soundInstance)
	f.Add(uint8(1), url.QueryEscape(dubboProvider), "")
	f.Add(uint8(2), "x", springJSON)
	f.Add(uint8(2), "x", dubboAppJSON)
	f.Add(uint8(3), "x", kratosJSON)
	f.Add(uint8(4), "", seedJSON)
	f.Add(uint8(5), "10.0.0.1:8888", `{"Weight":10,"s":["up"]}`)
	f.Add(uint8(6), "", "a:1\nb:2 7\n")
	f.Fuzz(func(t *testing.T, which uint8, name, data string) {
		l := layouts[int(which)%len(layouts)]
		places, err := l.Places("com.example.Foo")
		if err != nil {
			t.Fatal(err)
		}
		eps, _ := l.Parse("com.example.Foo", places[0], name, []byte(data)) // sound ones come with faulty ones
		for _, ep := range eps {
			host, port, err := net.SplitHostPort(ep.Address)
			if err != nil || !validHost(host) {
				t.Errorf("want an address, found %q", ep.Address)
			}
			if p, err := strconv.Atoi(port); err != nil || p < 1 || p > 65535 {
				t.Errorf("want a port, found %q", port)
			}
			if ep.ID == "" && name != "" || ep.Weight > maxWeight {
				t.Errorf("want an id and a weight, found %+v", ep)
			}
		}
	})
}

// heard collects a log.
type heard struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write keeps it.
func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) has(parts ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range strings.Lines(h.text.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return true
		}
	}
	return false
}

// TestWhatIsNotThereIsTold holds that a service without a node is told with what is there, and an instance of another protocol with
// what it speaks: neither looks like a service that has not been started.
func TestWhatIsNotThereIsTold(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side := plain(t, addr)
	provider := func(scheme, host string) string {
		return "/dubbo/com.example.Foo/providers/" + url.QueryEscape(scheme+"://"+host+":20880/com.example.Foo?interface=com.example.Foo")
	}
	for _, path := range []string{provider("dubbo", "10.0.0.1"), provider("dubbo", "10.0.0.2"), provider("tri", "10.0.0.2")} {
		put(t, side, path, "")
	}
	setInstances(t, side, "/causeway/v1/services/orders/instances", "a:1")
	said := &heard{}
	conn, err := Connect(Config{Servers: []string{addr}, Log: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch := func(layout Layout, service string) *registrytest.Sink {
		sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Layout: layout}, service)
		t.Cleanup(func() { _ = stop() }) // the context's error
		return sink
	}
	watch(nil, "order").Wait()
	eventually(t, "the name told", func() bool {
		return said.has("no such node", "service=order ", "node=/causeway/v1/services/order/instances", "nearest=/causeway/v1/services ", "has=orders")
	})
	watch(Curator{}, "orders").Wait()
	eventually(t, "the layout told", func() bool { return said.has("node=/services/orders", "nearest=/ ", "causeway, dubbo") })
	sink := watch(Dubbo{Protocols: []string{"tri"}}, "com.example.Foo")
	set := sink.WaitSet("one counted", func(s registry.Set) bool { return s.Skipped == 1 })
	if len(set.Endpoints) != 1 || set.Endpoints[0].Address != "10.0.0.2:20880" {
		t.Errorf("want the other in use, found %+v", set)
	}
	eventually(t, "the protocol told", func() bool { return said.has("entries=1", "want an instance that speaks tri, found dubbo at 10.0.0.1") })
	if said.has("found dubbo at 10.0.0.2") {
		t.Error("want a host that offers what is wanted left in peace")
	}
}
