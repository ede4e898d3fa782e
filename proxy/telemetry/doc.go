// Package telemetry gives the gateway and its plugins their instruments and log sinks.
//
// A value lives in an atomic cell that its user binds once (per route, method, code) and then adds to on the call's path:
// no lock, no allocation, no lookup. Cells are read out through OpenTelemetry's metrics SDK when somebody collects; this
// package is the only one that knows it.
package telemetry
