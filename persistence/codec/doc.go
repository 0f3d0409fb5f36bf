// Package codec writes what of a task has no column of its own as bytes, and
// reads it back. Every store that keeps rows uses it, so that a row means the
// same in each. Fields are numbered: more can be added, and a version before can
// still read the row.
package codec
