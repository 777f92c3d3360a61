//go:build race

package integration

// raceEnabled says whether the tests look for data races; the program then does
// too.
const raceEnabled = true
