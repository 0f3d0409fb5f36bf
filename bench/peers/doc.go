// Command peers puts Troupe and the systems it is compared with on one machine, gives
// them the same work in turns, and prints what each did and how they compare. It is a
// module of its own, so that none of them is anything Troupe depends on. README.md says
// what is measured and what is not.
package main
