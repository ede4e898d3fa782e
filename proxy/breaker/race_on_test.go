//go:build race

package breaker_test

// raceEnabled says that the race detector runs, which allocates on its own.
const raceEnabled = true
