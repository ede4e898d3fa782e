//go:build !race

package trpc

// raceEnabled says that the race detector runs, which allocates on its own.
const raceEnabled = false
