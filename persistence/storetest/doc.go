// Package storetest is the contract of [task.Store], and of [access.Accounts], in
// executable form. Every store runs it:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Subject{Open: open, Reopen: reopen})
//	}
//
// Each test is named for the rule it proves. Where a rule has many ways to be
// broken, [task.Store] is also compared, step by step along random walks, with
// a model too simple to be wrong (model.go), and met by many goroutines at once.
package storetest
