//go:build !race

package tars

// RaceEnabled says that the race detector runs, which allocates on its own.
const RaceEnabled = false
