// Package inventory is the demo's service that knows what is in stock, and speaks TARS.
package inventory

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/causeway-gateway/causeway/cmd/causeway/servant"
	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/source"

	_ "embed"
)

// Name is the servant that the service is registered as.
const Name = "Demo.InventoryServer.InventoryObj"

// IDL is what the service is described by.
//
//go:embed inventory.tars
var IDL []byte

// Stock is what the instances of the service know together. It is safe for concurrent use.
type Stock struct {
	mu     sync.Mutex
	levels map[string]*level
}

// level is Demo.Level in JSON.
type level struct {
	SKU         string         `json:"sku"`
	OnHand      int            `json:"onHand"`
	ByWarehouse map[string]int `json:"byWarehouse,omitempty"`
}

// NewStock fills the shelves.
func NewStock() *Stock {
	return &Stock{levels: map[string]*level{
		"mug":      {SKU: "mug", OnHand: 42, ByWarehouse: map[string]int{"north": 30, "south": 12}},
		"tea-500g": {SKU: "tea-500g", OnHand: 7, ByWarehouse: map[string]int{"north": 7}},
	}}
}

// Server makes a server of the service. dir is a folder to compile the IDL in.
func (s *Stock) Server(ctx context.Context, dir string, log *slog.Logger) (*servant.Server, error) {
	file := filepath.Join(dir, "inventory.tars")
	if err := os.WriteFile(file, IDL, 0o600); err != nil {
		return nil, err
	}
	set, err := source.Tars(ctx, []string{file}, nil, "", source.Limits{})
	if err != nil {
		return nil, err
	}
	compiled, err := set.Schema()
	if err != nil {
		return nil, err
	}
	conf := &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: Name, Service: "Demo.Inventory"}}}
	return servant.New(tars.Inlet{}, conf, compiled, map[string]rpc.Handler{
		"/Demo.Inventory/check":   servant.JSON(s.check),
		"/Demo.Inventory/reserve": servant.JSON(s.reserve),
	}, log)
}

// unknown is what check returns for a thing that nobody knows.
const unknown = 404

func (s *Stock) check(_ context.Context, request []byte) ([]byte, error) {
	var r struct {
		SKU string `json:"sku"`
	}
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.levels[r.SKU]
	answer := struct {
		Ret   int   `json:"ret"`
		Level level `json:"level"`
	}{Ret: unknown, Level: level{SKU: r.SKU}}
	if ok {
		answer.Ret, answer.Level = 0, *l
	}
	return json.Marshal(answer)
}

func (s *Stock) reserve(_ context.Context, request []byte) ([]byte, error) {
	var r struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	}
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := struct {
		Ret int `json:"ret"`
	}{}
	if l, ok := s.levels[r.SKU]; ok {
		l.OnHand -= min(max(r.Quantity, 0), l.OnHand)
		answer.Ret = l.OnHand
	}
	return json.Marshal(answer)
}
