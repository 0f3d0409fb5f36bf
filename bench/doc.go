// Command bench measures Troupe servers from the outside, in a process of its
// own: how soon watchers see what happens, how much the servers take in and
// work off, and what that costs. And it plays their scheduler in virtual time.
// See README.md for what is measured and what is not.
package main
