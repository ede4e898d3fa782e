// Package orders is the backend of the demo: a small shop behind the gRPC service demo.orders.v1.Orders, kept in memory,
// with the answers and the errors of a real one.
package orders

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100
	// cancelReasonLabel is the label under which CancelOrder keeps the reason it was given.
	cancelReasonLabel = "cancel-reason"
)

// Server is the order service. It starts with the same three orders each time (see seed) and forgets everything when it
// is dropped. Its methods may be called from any number of goroutines.
type Server struct {
	ordersv1.UnimplementedOrdersServer

	now     func() time.Time
	closing chan struct{}
	once    sync.Once // closes closing

	mu     sync.Mutex
	number int64              // of the newest order, deleted ones included
	orders map[string]*record // by name
	taken  map[string]receipt // by request_id
}

// record is one order and its place in the list.
type record struct {
	number  int64
	version *version
}

// version is one state of an order. Versions form a chain, so that a watcher that is slow misses none: after superseded
// is closed, next holds the version that followed, or nil when the order was deleted.
type version struct {
	order      *ordersv1.Order // read-only once it is here
	superseded chan struct{}
	next       *version // written before superseded is closed, read after
}

// receipt is what a create call was asked and what it answered.
type receipt struct {
	asked  *ordersv1.Order
	answer *ordersv1.Order
}

// Option changes a Server as it is made.
type Option func(*Server)

// WithClock makes the server take the creation time of orders from now, which must be safe for concurrent use.
func WithClock(now func() time.Time) Option {
	return func(s *Server) { s.now = now }
}

// New returns a server that holds orders/1 to orders/3.
func New(options ...Option) *Server {
	s := &Server{
		now:     time.Now,
		closing: make(chan struct{}),
		orders:  map[string]*record{},
		taken:   map[string]receipt{},
	}
	for _, o := range options {
		o(s)
	}
	for _, o := range seed() {
		s.add(o)
	}
	return s
}

// Register adds the service to g. Reflection and health are the caller's to register.
func (s *Server) Register(g *grpc.Server) { ordersv1.RegisterOrdersServer(g, s) }

// Close ends every WatchOrder stream with UNAVAILABLE, so that a graceful stop of the gRPC server ends too. Unary calls
// keep working.
func (s *Server) Close() { s.once.Do(func() { close(s.closing) }) }

// add names the order and puts it in. The caller holds mu, or nobody else has s yet.
func (s *Server) add(o *ordersv1.Order) {
	s.number++
	o.Name = "orders/" + strconv.FormatInt(s.number, 10)
	s.orders[o.GetName()] = &record{number: s.number, version: newVersion(o)}
}

func newVersion(o *ordersv1.Order) *version {
	return &version{order: o, superseded: make(chan struct{})}
}

// replace makes o the current version of r. The caller holds mu.
func (r *record) replace(o *ordersv1.Order) {
	old := r.version
	r.version = newVersion(o)
	old.next = r.version
	close(old.superseded)
}

// find returns the record of an order; field is where the request has the name. The caller holds mu.
func (s *Server) find(field, name string) (*record, error) {
	if id, ok := strings.CutPrefix(name, "orders/"); !ok || id == "" || strings.Contains(id, "/") {
		return nil, invalid(violation(field, "want orders/NUMBER, found %q", name))
	}
	r, ok := s.orders[name]
	if !ok {
		return nil, notFound(name)
	}
	return r, nil
}

// CreateOrder takes an order in. The server gives name, state, created, total and the price of each item; what the
// request says there is ignored. A request_id seen before gets the answer of the first time.
func (s *Server) CreateOrder(_ context.Context, req *ordersv1.CreateOrderRequest) (*ordersv1.Order, error) {
	asked := req.GetOrder()
	if asked == nil {
		return nil, invalid(violation("order", "want an order, found none"))
	}
	o := proto.CloneOf(asked)
	if faults := complete(o); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := req.GetRequestId()
	if r, ok := s.taken[id]; ok && id != "" {
		if !proto.Equal(r.asked, asked) {
			return nil, requestIDReused(id, r.answer.GetName())
		}
		return r.answer, nil
	}
	o.State = ordersv1.State_PLACED
	o.Created = timestamppb.New(s.now())
	s.add(o)
	if id != "" {
		s.taken[id] = receipt{asked: proto.CloneOf(asked), answer: o}
	}
	return o, nil
}

// GetOrder finds one order. An order of another customer than the one asked for is not found.
func (s *Server) GetOrder(_ context.Context, req *ordersv1.GetOrderRequest) (*ordersv1.Order, error) {
	v, err := s.current(req)
	if err != nil {
		return nil, err
	}
	return v.order, nil
}

func (s *Server) current(req *ordersv1.GetOrderRequest) (*version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find("name", req.GetName())
	if err != nil {
		return nil, err
	}
	if c := req.GetCustomer(); c != "" && c != r.version.order.GetCustomer() {
		return nil, notFound(req.GetName())
	}
	return r.version, nil
}

// ListOrders lists orders, newest first. A page token belongs to the filter it was made for.
func (s *Server) ListOrders(_ context.Context, req *ordersv1.ListOrdersRequest) (*ordersv1.ListOrdersResponse, error) {
	size, before, faults := page(req)
	for i, st := range req.GetStates() {
		if _, known := ordersv1.State_name[int32(st)]; !known || st == ordersv1.State_STATE_UNSPECIFIED {
			faults = append(faults, violation(fmt.Sprintf("states[%d]", i), "want PLACED, SHIPPED or CANCELLED, found %v", st))
		}
	}
	after := req.GetFilter().GetCreatedAfter()
	if after != nil && !after.IsValid() {
		faults = append(faults, violation("filter.created_after", "want a time between the years 1 and 9999, found %d seconds", after.GetSeconds()))
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*record
	for _, r := range s.orders {
		if r.number < before && wanted(r.version.order, req) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *record) int { return cmp.Compare(b.number, a.number) })
	resp := &ordersv1.ListOrdersResponse{}
	for i, r := range found {
		if i == size {
			resp.NextPageToken = pageToken(found[i-1].number, req)
			break
		}
		resp.Orders = append(resp.Orders, r.version.order)
	}
	return resp, nil
}

func wanted(o *ordersv1.Order, req *ordersv1.ListOrdersRequest) bool {
	if len(req.GetStates()) > 0 && !slices.Contains(req.GetStates(), o.GetState()) {
		return false
	}
	if c := req.GetFilter().GetCustomer(); c != "" && c != o.GetCustomer() {
		return false
	}
	after := req.GetFilter().GetCreatedAfter()
	return after == nil || o.GetCreated().AsTime().After(after.AsTime())
}

// page returns the page size and the number that the orders of the page stay below.
func page(req *ordersv1.ListOrdersRequest) (size int, before int64, faults []fault) {
	size, before = int(req.GetPageSize()), math.MaxInt64
	switch {
	case size == 0:
		size = defaultPageSize
	case size < 0 || size > maxPageSize:
		faults = append(faults, violation("page_size", "want 1 to %d, or 0 for %d; found %d", maxPageSize, defaultPageSize, size))
	}
	token := req.GetPageToken()
	if token == "" {
		return size, before, faults
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	number, _, _ := strings.Cut(string(raw), ".")
	n, numberErr := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || numberErr != nil || n <= 0:
		faults = append(faults, violation("page_token", "want the next_page_token of an earlier answer, found %q", token))
	case pageToken(n, req) != token:
		faults = append(faults, violation("page_token", "this token was made for other states or another filter; start again without it"))
	}
	return size, n, faults
}

// pageToken names the last order of a page, and the filter by its hash.
func pageToken(last int64, req *ordersv1.ListOrdersRequest) string {
	hash := fnv.New32a()
	for _, st := range req.GetStates() {
		fmt.Fprintf(hash, "%d,", st)
	}
	after := req.GetFilter().GetCreatedAfter()
	fmt.Fprintf(hash, "%q,%d.%d", req.GetFilter().GetCustomer(), after.GetSeconds(), after.GetNanos())
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%x", last, hash.Sum32()))
}

// CancelOrder cancels an order that has not been shipped and keeps the reason as a label. Cancelling twice changes
// nothing.
func (s *Server) CancelOrder(_ context.Context, req *ordersv1.CancelOrderRequest) (*ordersv1.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find("name", req.GetName())
	if err != nil {
		return nil, err
	}
	old := r.version.order
	if old.GetState() == ordersv1.State_CANCELLED {
		return old, nil
	}
	if old.GetState() == ordersv1.State_SHIPPED {
		return nil, wrongState(old, "cannot be cancelled: it has been shipped")
	}
	o := proto.CloneOf(old)
	o.State = ordersv1.State_CANCELLED
	if reason := req.GetReason(); reason != "" {
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[cancelReasonLabel] = reason
	}
	r.replace(o)
	return o, nil
}

// DeleteOrder removes an order; those who watch it get NOT_FOUND. Its number is not given again.
func (s *Server) DeleteOrder(_ context.Context, req *ordersv1.DeleteOrderRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find("name", req.GetName())
	if err != nil {
		return nil, err
	}
	delete(s.orders, req.GetName())
	close(r.version.superseded)
	return &emptypb.Empty{}, nil
}

// Quote prices items without ordering them.
func (s *Server) Quote(_ context.Context, req *ordersv1.QuoteRequest) (*ordersv1.QuoteResponse, error) {
	items := make([]*ordersv1.Item, len(req.GetItems()))
	for i, it := range req.GetItems() {
		items[i] = proto.CloneOf(it)
	}
	total, faults := priceItems("items", items)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	resp := &ordersv1.QuoteResponse{TotalCents: total, Prices: map[string]int64{}}
	for _, it := range items {
		resp.Prices[it.GetSku()] = it.GetPriceCents()
	}
	return resp, nil
}

// WatchOrder sends the order as it is and then each state that follows, none left out. It ends with NOT_FOUND when the
// order is deleted.
func (s *Server) WatchOrder(req *ordersv1.GetOrderRequest, stream grpc.ServerStreamingServer[ordersv1.Order]) error {
	v, err := s.current(req)
	if err != nil {
		return err
	}
	for {
		if err := stream.Send(v.order); err != nil {
			return err
		}
		select {
		case <-v.superseded:
			if v = v.next; v == nil {
				return notFound(req.GetName())
			}
		case <-s.closing:
			return stopping()
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
