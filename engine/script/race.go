//go:build race

package script

// The race detector maps far more than any data limit.
const raceEnabled = true
