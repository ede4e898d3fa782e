//go:build !race

package framed

const raceEnabled = false
