//go:build race

package plugin_test

// raceEnabled: the race detector changes what allocates and how long it takes.
const raceEnabled = true
