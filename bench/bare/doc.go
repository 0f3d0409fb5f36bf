// Package bare measures what a machine does without Troupe: how often it syncs, what
// SQLite and PostgreSQL take in at their best, how long a byte is under way. It is what
// figures of Troupe are held against.
package bare
