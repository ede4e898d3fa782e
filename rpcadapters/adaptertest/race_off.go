//go:build !race

package adaptertest

// Race tells that the race detector is on, which allocates on its own account.
const Race = false
