package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// orders is the service behind a grpc-go server. It answers only a request that says exactly what the bench sent, so a
// candidate that loses or changes a field is found out in the check before the measurement.
type orders struct {
	benchpb.UnimplementedOrdersServer

	order *benchpb.Order
	list  *benchpb.ListReply
	fault error
}

// backend serves orders with grpc-go and its defaults.
func backend(ctx context.Context, l net.Listener) error {
	st, err := missing()
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	benchpb.RegisterOrdersServer(s, &orders{order: order(), list: listReply(), fault: st.Err()})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}

func (o *orders) Place(_ context.Context, r *benchpb.PlaceRequest) (*benchpb.Order, error) {
	return o.order, checkPlace(r)
}

func (o *orders) List(_ context.Context, r *benchpb.PlaceRequest) (*benchpb.ListReply, error) {
	return o.list, checkPlace(r)
}

func (o *orders) Cancel(_ context.Context, r *benchpb.PlaceRequest) (*benchpb.Order, error) {
	if err := checkPlace(r); err != nil {
		return nil, err
	}
	return nil, o.fault
}

func (o *orders) Find(_ context.Context, r *benchpb.FindRequest) (*benchpb.Order, error) {
	want := wantFind
	if r.GetShop() != want.GetShop() || r.GetOrder().GetId() != want.GetOrder().GetId() ||
		r.GetOrder().GetRegion() != want.GetOrder().GetRegion() || r.GetPageSize() != want.GetPageSize() ||
		r.GetFilter() != want.GetFilter() || r.GetDeep() != want.GetDeep() || !slices.Equal(r.GetTags(), want.GetTags()) {
		return nil, status.Errorf(codes.InvalidArgument, "the request is not the one that was sent: %v", r)
	}
	return o.order, nil
}

// Watch implements benchpb.OrdersServer.
func (o *orders) Watch(r *benchpb.PlaceRequest, to grpc.ServerStreamingServer[benchpb.Order]) error {
	if err := checkPlace(r); err != nil {
		return err
	}
	for range streamed {
		if err := to.Send(o.order); err != nil {
			return err
		}
	}
	return nil
}

var (
	wantPlace = placeRequest()
	wantFind  = findRequest()
)

func checkPlace(r *benchpb.PlaceRequest) error {
	want := wantPlace
	if r.GetOrderId() != want.GetOrderId() || r.GetSequence() != want.GetSequence() || r.GetTotal() != want.GetTotal() ||
		r.GetBuyer().GetName() != want.GetBuyer().GetName() || r.GetBuyer().GetEmail() != want.GetBuyer().GetEmail() ||
		r.GetBuyer().GetLevel() != want.GetBuyer().GetLevel() || r.GetExpress() != want.GetExpress() ||
		!slices.Equal(r.GetTags(), want.GetTags()) {
		return status.Errorf(codes.InvalidArgument, "the request is not the one that was sent: %v", r)
	}
	return nil
}

// gatewayPeer is grpc-gateway as its documentation sets it up: the generated handlers on runtime.ServeMux, served by
// net/http, in front of a grpc-go client. With extra > 0 that many more routes are registered, half of them before and
// half after the called ones, all under POST.
func gatewayPeer(ctx context.Context, l net.Listener, cert *tls.Certificate, target string, extra int) error {
	mux := runtime.NewServeMux()
	none := func(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
		w.WriteHeader(http.StatusNotImplemented)
	}
	for i := range extra / 2 {
		if err := mux.HandlePath(http.MethodPost, extraPath(i), none); err != nil {
			return err
		}
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := benchpb.RegisterOrdersHandler(ctx, mux, conn); err != nil {
		return err
	}
	for i := extra / 2; i < extra; i++ {
		if err := mux.HandlePath(http.MethodPost, extraPath(i), none); err != nil {
			return err
		}
	}
	s := &http.Server{Handler: mux} //nolint:gosec // a peer on loopback, with its documented set-up
	if cert != nil {
		l = tls.NewListener(l, serverTLS(cert))
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// extraPath is the path template of one of the methods loaded beside the called one.
func extraPath(i int) string { return fmt.Sprintf("/v1/group%03d/item%03d/{id}", i/100, i%100) }
