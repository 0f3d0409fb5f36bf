// Package simulate plays workloads of parallel jobs through schedulers in virtual
// time: the one that Troupe runs, package schedule as it is, and beside it the
// heuristics of the literature, written down plainly. All see the same jobs arrive
// and end at the same moments, so their figures may be compared.
package simulate
