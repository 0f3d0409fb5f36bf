// Command bench measures a Troupe server from the outside, in a process of its
// own: how soon watchers see what happens, how much the server takes in and
// works off, and what that costs it. See README.md for what is measured and
// what is not.
package main
