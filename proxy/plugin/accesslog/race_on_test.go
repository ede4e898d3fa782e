//go:build race

package accesslog

// raceEnabled: the race detector changes what allocates and how long it takes.
const raceEnabled = true
