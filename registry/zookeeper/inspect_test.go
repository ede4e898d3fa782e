package zookeeper

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

func testHold(t *testing.T, x registered) {
	var healthy atomic.Bool
	lease, ok := x.register(t, &Registrar{
		Hold: true, Beat: 5 * time.Millisecond, HealthEvery: 5 * time.Millisecond,
		Health: func(context.Context) error {
			if !healthy.Load() {
				return errors.New("not serving")
			}
			return nil
		},
	}, registry.Endpoint{Address: "a:1"}).(*Lease)
	if !ok {
		t.Fatal("want a *Lease")
	}
	there := func(path string) bool {
		is, _, err := x.side.Exists(path)
		return is && err == nil
	}
	beat := x.root + "/v1/services/orders/beats/a-1"
	if there(x.dir + "/a-1") {
		t.Error("want no node before the first success")
	}
	healthy.Store(true)
	x.eventually(t, "up", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "up" })
	eventually(t, "a beat", func() bool { return there(beat) })
	// An operator's order is kept over the time in which it is not there.
	if err := x.conn.Order(short(t), "orders", "a-1", registry.Draining); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the order obeyed", func() bool { return lease.Status() == registry.Draining })
	healthy.Store(false)
	eventually(t, "neither node nor beat", func() bool { return !there(x.dir+"/a-1") && !there(beat) })
	healthy.Store(true)
	x.eventually(t, "draining", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "draining" })
	healthy.Store(false)
	eventually(t, "no node", func() bool { return !there(x.dir + "/a-1") })
	if err := lease.Close(short(t)); err != nil {
		t.Error(err)
	}
}

// TestInspectLayouts reads what others have written.
func TestInspectLayouts(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side, conn := plain(t, addr), connect(t, Config{Servers: []string{addr}})
	const curator = `{"name":"orders","id":"1","address":"10.0.0.1","port":8080,"serviceType":"DYNAMIC"}`
	put(t, side, "/dubbo/com.example.Foo/providers/tri%3A%2F%2F10.0.0.1%3A20880%2Fcom.example.Foo%3Finterface%3Dcom.example.Foo", "")
	put(t, side, "/dubbo/mapping/x", "")
	put(t, side, "/services/orders/1", curator)
	put(t, side, "/services/orders/2", strings.Replace(curator, "10.0.0.1", "169.254.169.254", 1))
	put(t, side, "/microservices/orders/1", `{"id":"1","endpoints":["grpc://10.0.0.1:9000"]}`)
	put(t, side, "/zookeeper/orders", `[{"host":"a","port":1},{"host":"b","port":2},{"host":"c"}]`)
	generic, err := NewGeneric(GenericConfig{Path: "/{service}", Name: `^(?P<host>.+):(?P<port>\d+)$`})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		layout   Layout
		services []string
		addrs    []string // of the last service, by entry
		faulty   int      // entries
	}{
		{Dubbo{}, []string{"com.example.Foo"}, []string{"10.0.0.1:20880"}, 0},
		{Curator{}, []string{"orders"}, []string{"10.0.0.1:8080", ""}, 1},
		{Kratos{}, []string{"orders"}, []string{"10.0.0.1:9000"}, 0},
		{Seed{}, []string{"orders"}, []string{"a:1,b:2"}, 1},
		{Native{Root: "/nowhere"}, nil, nil, 0},
	} {
		names, err := conn.Services(short(t), tc.layout)
		if err != nil || !slices.Equal(names, tc.services) {
			t.Errorf("%T: want %v, found %v %v", tc.layout, tc.services, names, err)
			continue
		}
		for _, name := range names {
			entries, err := conn.Inspect(short(t), tc.layout, name)
			if err != nil {
				t.Fatal(err)
			}
			var addrs []string
			faulty := 0
			for _, e := range entries {
				var own []string
				for _, ep := range e.Endpoints {
					own = append(own, ep.Address)
				}
				addrs = append(addrs, strings.Join(own, ","))
				if e.Fault != nil {
					faulty++
				}
				if !strings.HasSuffix(e.Path, "/"+e.Name) || !e.Beat.IsZero() || e.Load != -1 || e.Owner != 0 {
					t.Errorf("%T: %+v", tc.layout, e)
				}
			}
			if !slices.Equal(addrs, tc.addrs) || faulty != tc.faulty {
				t.Errorf("%T: want %q and %d faults, found %q and %d", tc.layout, tc.addrs, tc.faulty, addrs, faulty)
			}
		}
	}
	if _, err := conn.Services(short(t), generic); err == nil {
		t.Error("want no list of a layout that cannot be listed")
	}
}

func TestValid(t *testing.T) {
	for address, fine := range map[string]bool{
		"10.0.0.1:9000": true, "orders:9000": true, "127.0.0.1:1": true, "0.0.0.0:9000": false, "[::]:9000": false,
		"169.254.169.254:80": false, "10.0.0.1": false, ":9000": false, "a:0": false,
	} {
		if err := Valid("orders", registry.Endpoint{Address: address}); (err == nil) != fine {
			t.Errorf("%s: found %v", address, err)
		}
	}
	if err := Valid("a/b", registry.Endpoint{Address: "a:1"}); err == nil {
		t.Error("want the name of the service refused")
	}
}

func testContest(t *testing.T, x registered) {
	x.register(t, &Registrar{}, registry.Endpoint{Address: "a:1"})
	other := connect(t, Config{Servers: []string{x.addr}, Root: x.root})
	if _, err := (&Registrar{Conn: other}).Register(short(t), "orders", registry.Endpoint{Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	// They stop fighting as fast as they can: over several looks nothing changes.
	quiet := 0
	var last int64
	eventually(t, "pauses between the fights", func() bool {
		_, stat, ok := nodeAt(t, x.side, x.dir+"/a-1")
		if ok && stat.Czxid == last {
			quiet++
		} else {
			quiet = 0
		}
		if ok {
			last = stat.Czxid
		}
		return quiet > 60
	})
}
