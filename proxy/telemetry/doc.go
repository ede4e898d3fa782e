// Package telemetry gives the gateway and its plugins their instruments. Values live in atomics on the call's path; they
// are read out through OpenTelemetry's metrics SDK when somebody collects.
package telemetry

// Meter makes instruments.
type Meter struct{}
