package main

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// frame is a message that is passed on as it came.
type frame struct{ data mem.BufferSlice }

// rawCodec leaves messages as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, status.Errorf(codes.Internal, "want a frame, got %T", v)
	}
	f.data.Ref()
	return f.data, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return status.Errorf(codes.Internal, "want a frame, got %T", v)
	}
	data.Ref()
	f.data = data
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

// grpcPeer is a gRPC proxy as they are written with grpc-go (mwitkow/grpc-proxy is the model): a handler for unknown
// services, a stream to the upstream for each call, and a goroutine for each direction.
func grpcPeer(ctx context.Context, l net.Listener, target string) error {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
		return passOn(conn, in)
	}))
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Serve(l)
}

func passOn(conn *grpc.ClientConn, in grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(in)
	if !ok {
		return status.Error(codes.Internal, "no method")
	}
	ctx := in.Context()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md.Copy())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	asked, answered := make(chan error, 1), make(chan error, 1)
	go func() { asked <- passRequests(in, out) }()
	go func() { answered <- passAnswers(in, out) }()
	for {
		select {
		case err := <-asked:
			if err != nil {
				return err
			}
			asked = nil
		case err := <-answered:
			in.SetTrailer(out.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func passRequests(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f frame
		if err := in.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return out.CloseSend()
			}
			return err
		}
		err := out.SendMsg(&f)
		f.data.Free()
		if err != nil {
			return nil //nolint:nilerr // the answer tells why
		}
	}
}

func passAnswers(in grpc.ServerStream, out grpc.ClientStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SetHeader(header); err != nil {
		return err
	}
	for {
		var f frame
		if err := out.RecvMsg(&f); err != nil {
			return err
		}
		err := in.SendMsg(&f)
		f.data.Free()
		if err != nil {
			return err
		}
	}
}
