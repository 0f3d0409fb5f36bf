// Package troupe names the module and holds the tests of its shape: who may
// import whom, and what every package owes its reader. The program is in
// cmd/troupe, the Go API in runtime, and the map of it all in ARCHITECTURE.md.
package troupe
