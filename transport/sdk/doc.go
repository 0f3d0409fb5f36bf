// Package sdk holds the clients in other languages, python and typescript, and
// nothing in Go but their tests, which run them against a real server.
package sdk
