// Pins the example server of grpc-gateway, which a test of cmd/causeway builds, runs and stands in front of.
module github.com/causeway-gateway/causeway/testdata/exampleserver

go 1.26.0

tool github.com/grpc-ecosystem/grpc-gateway/v2/examples/internal/cmd/example-grpc-server

require (
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.32.0 // indirect
	github.com/rogpeppe/fastuuid v1.2.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
