package proxy

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"testing"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
)

// Every member of an ensemble shows the certificate of its own name, and none of them speaks HTTP/2.
func TestMembersOfZooKeeperHaveTheirOwnNames(t *testing.T) {
	var opened *tls.Config
	b := &builder{log: slog.New(slog.DiscardHandler), std: &Standard{
		ZooKeeper: func(_ *configv1.ZooKeeper, c *tls.Config, _ *slog.Logger) (Registry, error) {
			opened = c
			return nil, nil
		},
	}}
	for name, t1 := range map[string]*configv1.ClientTLS{"": {}, "zk.internal": {ServerName: "zk.internal"}} {
		conf := &configv1.Registry{Name: "zk", Kind: &configv1.Registry_Zookeeper{Zookeeper: &configv1.ZooKeeper{
			Servers: []string{"zk1:2281", "zk2:2281"}, Tls: t1,
		}}}
		if _, err := b.openRegistry(conf); err != nil {
			t.Fatal(err)
		}
		if opened.ServerName != name || len(opened.NextProtos) != 0 {
			t.Errorf("want certificates held to %q (none: to the name of each member) and no protocol asked for, found %q and %v", name, opened.ServerName, opened.NextProtos)
		}
	}
}

// What was made last may use what was made before: services watch registries.
func TestWhatIsRefusedIsEndedBackwards(t *testing.T) {
	var ended []string
	b := &builder{}
	for _, what := range []string{"registry", "service", "plugin"} {
		b.made = append(b.made, func() { ended = append(ended, what) })
	}
	b.undo()
	if want := []string{"plugin", "service", "registry"}; !slices.Equal(ended, want) {
		t.Errorf("want %v, found %v", want, ended)
	}
}

// The authorities that registries and stores are held to are followed as those of services are.
func TestAuthoritiesAreWatched(t *testing.T) {
	doc := &config.Document{Config: &configv1.Config{Registries: []*configv1.Registry{
		{Name: "zk", Kind: &configv1.Registry_Zookeeper{Zookeeper: &configv1.ZooKeeper{Tls: &configv1.ClientTLS{CaFile: "zk-ca.pem"}}}},
		{Name: "names", Kind: &configv1.Registry_Dns{Dns: &configv1.DNS{}}},
	}, Stores: []*configv1.Store{
		{Name: "redis", Kind: &configv1.Store_Redis{Redis: &configv1.Redis{Tls: &configv1.ClientTLS{CaFile: "redis-ca.pem"}}}},
	}}}
	if files := authorities(doc); !slices.Equal(files, []string{"zk-ca.pem", "redis-ca.pem"}) {
		t.Errorf("want the files of the authorities of registries and stores, found %v", files)
	}
}
