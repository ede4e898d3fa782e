//go:build !race

package source_test

// raceDetector says that times and heap sizes mean nothing.
const raceDetector = false
