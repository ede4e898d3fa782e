//go:build !race

package plugintest

// raced: the race detector changes what allocates.
const raced = false
