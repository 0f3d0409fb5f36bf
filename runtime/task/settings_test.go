package task

import (
	"errors"
	"testing"
	"time"
)

func TestSettingsThatCannotBeAreRefusedByTheirField(t *testing.T) {
	fine := Breaker{Failures: 3, Window: time.Minute, OpenFor: time.Second}
	for _, tt := range []struct {
		err   error
		field string
	}{
		{CheckQueue(QueueChange{Name: "q", Concurrency: new(0), Rate: new(Rate{}), Burst: new(maxBurst), Weight: new(0.0), MaxQueued: new(0)}), ""},
		{CheckQueue(QueueChange{Name: "q", Policy: new(PolicyArea), Placement: new(PlacementPack), Weight: new(minWeight)}), ""},
		{CheckQueue(QueueChange{Name: "q", Policy: new(Policy("")), Placement: new(Placement(""))}), ""},
		{CheckQueue(QueueChange{Name: "Q"}), "name"},
		{CheckQueue(QueueChange{Name: "q", Concurrency: new(-1)}), "concurrency"},
		{CheckQueue(QueueChange{Name: "q", Rate: new(Rate{Count: 1, Per: time.Minute * 2})}), "rate"},
		{CheckQueue(QueueChange{Name: "q", Burst: new(maxBurst + 1)}), "burst"},
		{CheckQueue(QueueChange{Name: "q", Weight: new(0.001)}), "weight"},
		{CheckQueue(QueueChange{Name: "q", Weight: new(1001.0)}), "weight"},
		{CheckQueue(QueueChange{Name: "q", Policy: new(Policy("lifo"))}), "policy"},
		{CheckQueue(QueueChange{Name: "q", Placement: new(Placement("scatter"))}), "placement"},
		{CheckQueue(QueueChange{Name: "q", MaxQueued: new(-1)}), "max_queued"},
		{CheckKind(KindChange{Name: "k", Concurrency: new(1), Breaker: &fine, RetryBudget: new(0.2)}), ""},
		{CheckKind(KindChange{Name: "k", Breaker: &Breaker{}}), ""},
		{CheckKind(KindChange{Name: ""}), "name"},
		{CheckKind(KindChange{Name: "k", Concurrency: new(-1)}), "concurrency"},
		{CheckKind(KindChange{Name: "k", RetryBudget: new(1.5)}), "retry_budget"},
		{CheckKind(KindChange{Name: "k", Breaker: &Breaker{Window: time.Minute, OpenFor: time.Second}}), "breaker.failures"},
		{CheckKind(KindChange{Name: "k", Breaker: &Breaker{Failures: 1, OpenFor: time.Second}}), "breaker.window"},
		{CheckKind(KindChange{Name: "k", Breaker: &Breaker{Failures: 1, Window: time.Second, OpenFor: 48 * time.Hour}}), "breaker.open_for"},
		{CheckPool(PoolChange{Name: "gpu", Capacity: new(Quantity(0))}), ""},
		{CheckPool(PoolChange{Name: "GPU"}), "name"},
		{CheckPool(PoolChange{Name: SlotResource}), "name"},
		{CheckPool(PoolChange{Name: "gpu", Capacity: new(Quantity(-1))}), "capacity"},
	} {
		bad, _ := errors.AsType[InvalidError](tt.err)
		switch {
		case tt.field == "" && tt.err != nil:
			t.Errorf("refused: %v", tt.err)
		case tt.field != "" && (len(bad) != 1 || bad[0].Field != tt.field):
			t.Errorf("%v, want only %s refused", tt.err, tt.field)
		}
	}
}

func TestChangeLeavesAloneWhatItDoesNotName(t *testing.T) {
	q := Queue{Namespace: "n", Name: "q", Paused: true, Concurrency: 2, Rate: Rate{Count: 5, Per: time.Second, Burst: 7}, Weight: 2, MaxQueued: 9}
	if got := (QueueChange{Namespace: "n", Name: "q"}).Of(q); got != q {
		t.Errorf("%+v, want %+v", got, q)
	}
	faster := q
	faster.Rate.Count = 6 // and the burst stays
	if got := (QueueChange{Namespace: "n", Name: "q", Rate: &Rate{Count: 6, Per: time.Second}}).Of(q); got != faster {
		t.Errorf("%+v, want %+v", got, faster)
	}
	if q.Share() != 2 || (Queue{}).Share() != 1 {
		t.Error("a queue that names no weight has that of 1")
	}
}
