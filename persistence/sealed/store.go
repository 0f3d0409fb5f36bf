package sealed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/troupe-run/troupe/runtime/access"
	"github.com/troupe-run/troupe/runtime/task"
)

// Options says how a store is sealed.
type Options struct {
	Log *slog.Logger // nil: silent
	// Strict refuses what is stored and not sealed. Without it, whoever may write to the
	// store can put plain texts in place of sealed ones.
	Strict bool
}

// Store is a store that never sees what users say. Use [New].
type Store struct {
	task.Store // what it does not seal, and Close

	keys Keys
	opt  Options

	mu         sync.Mutex
	complained map[task.ID]bool
}

var _ task.Store = (*Store)(nil)

// New seals a store. Without keys it seals nothing, and still knows what is sealed: a
// node that lacks the keys must not take it for what users said. If the store has
// accounts, so has the sealed one, and they are as they were: no user says anything
// there.
func New(inner task.Store, keys Keys, opt Options) task.Store {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{Store: inner, keys: keys, opt: opt, complained: map[task.ID]bool{}}
	if accounts, ok := inner.(access.Accounts); ok {
		return struct {
			*Store
			access.Accounts
		}{s, accounts}
	}
	return s
}

func (s *Store) of(namespace string, id task.ID) *box {
	return newBox(s.keys, s.opt.Strict, "task", namespace, string(id[:]))
}

func (s *Store) ofSchedule(namespace, name string) *box {
	return newBox(s.keys, s.opt.Strict, "schedule", namespace, name)
}

func (s *Store) ofRequest(namespace, key string) *box {
	return newBox(s.keys, s.opt.Strict, "request", namespace, key)
}

// Append implements [task.Store].
func (s *Store) Append(ctx context.Context, ms []task.Mutation) ([]task.Outcome, error) {
	sealed := s.mutations(ms)
	outcomes, err := s.Store.Append(ctx, sealed)
	if err != nil {
		return nil, err
	}
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case s.mistakable(&ms[i]):
			o.Err = task.InvalidError{{Field: "payload", Message: "must not be a text that begins with " + prefix}}
			continue
		case o.Err != nil && s.compares():
			*o = s.again(ctx, ms[i], sealed[i], *o)
		}
		if there := outcomes[i].Existing; there != nil {
			opened, err := s.open(*there)
			if err != nil {
				outcomes[i] = task.Outcome{Err: err}
				continue
			}
			outcomes[i].Existing = &opened
		}
	}
	return outcomes, nil
}

// mutations seals a batch. What may not be is no mutation then, and does not hold.
func (s *Store) mutations(ms []task.Mutation) []task.Mutation {
	sealed := ms
	if len(s.keys) > 0 {
		sealed = make([]task.Mutation, len(ms))
		for i := range ms {
			sealed[i] = s.mutation(ms[i])
		}
		return sealed
	}
	for i := range ms {
		if !s.mistakable(&ms[i]) {
			continue
		}
		if &sealed[0] == &ms[0] {
			sealed = slices.Clone(ms)
		}
		sealed[i] = task.Mutation{}
	}
	return sealed
}

// mistakable says that what a user sends would be taken for sealed when it is read.
func (s *Store) mistakable(m *task.Mutation) bool {
	return len(s.keys) == 0 && (looksSealed(m.Task.Payload) && m.Inserts() || looksSealed(m.Signal.Data) || m.Schedule != nil && looksSealed(m.Schedule.Task.Payload))
}

// mutation seals a write.
func (s *Store) mutation(m task.Mutation) task.Mutation {
	if !m.Task.ID.IsZero() {
		b := s.of(m.Task.Namespace, m.Task.ID)
		m.Task = b.task(m.Task, m.Inserts(), m.Inserts() || m.Checkpoint)
		m.Events = b.events(m.Events)
		m.Memos = b.memos(m.Memos)
		m.Signal.Data = b.json(signalPlace(m.Signal.ID), m.Signal.Data)
		if m.Request.Key != "" {
			m.Request.Hash = hashed(s.ofRequest(m.Task.Namespace, m.Request.Key).first(), m.Request.Hash)
		}
	}
	if m.Schedule != nil {
		c := *m.Schedule
		c.Task.Payload = s.ofSchedule(c.Namespace, c.Name).json(placePayload, c.Task.Payload)
		m.Schedule = &c
	}
	return m
}

// hashed is the hash of a request as it is kept: a plain one would tell of what was
// asked, if there is not much that can be.
func hashed(by sealer, hash [32]byte) [32]byte { return [32]byte(sum(by.mac, hash[:])) }

// compares says that what is stored may have been sealed in another way than we do.
func (s *Store) compares() bool { return len(s.keys) > 1 || len(s.keys) == 1 && !s.opt.Strict }

// again tries a write once more that may have been refused only because what it
// repeats was sealed with another key, or before anything was sealed. Nothing else in
// its batch depends on it: whatever it repeats was there before.
func (s *Store) again(ctx context.Context, m, tried task.Mutation, refused task.Outcome) task.Outcome {
	outcome, err := refused, error(nil)
	if m.Op == task.Insert && errors.Is(outcome.Err, task.ErrKeyReused) {
		tried, outcome, err = s.requestAgain(ctx, m, tried, outcome)
	}
	if m.Op == task.Insert && err == nil && errors.Is(outcome.Err, task.ErrExists) {
		outcome, err = s.insertAgain(ctx, m, tried, outcome)
	}
	if m.Op == task.PutSignal && errors.Is(outcome.Err, task.ErrKeyReused) {
		outcome, err = s.signalAgain(ctx, m, tried, outcome)
	}
	if err != nil {
		return task.Outcome{Err: fmt.Errorf("compare with what is sealed already: %w", err)}
	}
	return outcome
}

// requestAgain looks for a request under every hash it may have been kept with.
func (s *Store) requestAgain(ctx context.Context, m, tried task.Mutation, refused task.Outcome) (task.Mutation, task.Outcome, error) {
	b := s.ofRequest(m.Task.Namespace, m.Request.Key)
	var hashes [][32]byte
	for _, k := range s.keys[1:] {
		by, _ := b.by(k.ID)
		hashes = append(hashes, hashed(by, m.Request.Hash))
	}
	if !s.opt.Strict {
		hashes = append(hashes, m.Request.Hash)
	}
	for _, hash := range hashes {
		next := tried
		next.Request.Hash = hash
		outcome, err := s.one(ctx, next)
		if err != nil || !errors.Is(outcome.Err, task.ErrKeyReused) {
			return next, outcome, err
		}
	}
	return tried, refused, nil
}

// insertAgain repeats an insert in the form in which its payload is stored, if it is
// the same payload.
func (s *Store) insertAgain(ctx context.Context, m, tried task.Mutation, refused task.Outcome) (task.Outcome, error) {
	stored, err := s.Store.Task(ctx, m.Task.Namespace, m.Task.ID)
	if errors.Is(err, task.ErrNotFound) {
		return refused, nil
	}
	if err != nil {
		return refused, err
	}
	payload, err := s.of(m.Task.Namespace, m.Task.ID).openJSON(placePayload, stored.Payload)
	if err != nil || string(payload) != string(m.Task.Payload) || string(stored.Payload) == string(tried.Task.Payload) {
		return refused, err
	}
	tried.Task.Payload = stored.Payload
	return s.one(ctx, tried)
}

// signalAgain does the same with a signal that waits, or that has been taken.
func (s *Store) signalAgain(ctx context.Context, m, tried task.Mutation, refused task.Outcome) (task.Outcome, error) {
	stored, err := s.keptSignal(ctx, m)
	if err != nil || stored == nil {
		return refused, err
	}
	data, err := s.of(m.Task.Namespace, m.Task.ID).openJSON(signalPlace(m.Signal.ID), stored)
	if err != nil || string(data) != string(m.Signal.Data) || string(stored) == string(tried.Signal.Data) {
		return refused, err
	}
	tried.Signal.Data = stored
	return s.one(ctx, tried)
}

// keptSignal is what is stored of a signal, or nil.
func (s *Store) keptSignal(ctx context.Context, m task.Mutation) ([]byte, error) {
	waiting, err := s.Store.Signals(ctx, m.Task.Namespace, m.Task.ID, m.Signal.Name, task.MaxSignals)
	if err != nil {
		return nil, err
	}
	for _, one := range waiting {
		if one.ID == m.Signal.ID {
			return one.Data, nil
		}
	}
	memos, err := s.Store.Memos(ctx, m.Task.Namespace, m.Task.ID)
	if err != nil {
		return nil, err
	}
	for _, memo := range memos {
		if memo.Signal == m.Signal.ID {
			return memo.Data, nil
		}
	}
	return nil, nil
}

// one is Append of one mutation that is sealed already.
func (s *Store) one(ctx context.Context, m task.Mutation) (task.Outcome, error) {
	outcomes, err := s.Store.Append(ctx, []task.Mutation{m})
	if err != nil {
		return task.Outcome{}, err
	}
	return outcomes[0], nil
}
