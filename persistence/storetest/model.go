package storetest

import "testing"

func walk(t *testing.T, subject Subject) { t.Helper() }
