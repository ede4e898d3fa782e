//go:build !race

package tracing

// raceEnabled: the race detector changes what allocates and how long it takes.
const raceEnabled = false
