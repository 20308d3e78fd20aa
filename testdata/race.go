//go:build race

package testdata

// raceDetector is whether the race detector is built in.
const raceDetector = true
