//go:build race

package telemetry

// raceEnabled: the race detector changes what allocates.
const raceEnabled = true
