package actors

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
)

// lane is a mailbox's class of service. Messages of one lane keep their order;
// lanes overtake each other by weight, never wholly: a flood in one cannot
// starve another.
type lane uint8

const (
	control lane = iota // what others wait for: answers, pauses, watchers
	completion
	newWork
	background
	lanes
)

// weights is how many messages of a lane are handled before the next lane gets
// its turn.
var weights = [lanes]int{control: 64, completion: 16, newWork: 4, background: 1}

// laned is a message that says which lane it travels in; others are newWork.
type laned interface{ lane() lane }

// shrinkAbove is the capacity above which an emptied lane is given back, so
// that one burst is not kept for the life of the actor.
const shrinkAbove = 1024

// mailbox is an [actor.Mailbox] with weighted lanes. The library's own priority
// mailboxes look at the envelope instead of the message, keep eight rings an
// actor, and never shrink. Nothing here blocks a sender: what may come in is
// bounded where it enters the node.
type mailbox struct {
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	log        *slog.Logger
	panics     func()
	turn       func() // process, made once: it is scheduled for about every message

	scheduled atomic.Bool
	suspended atomic.Bool
	waiting   atomic.Int32 // user messages
	system    atomic.Int32 // system messages

	mu       sync.Mutex
	systemQ  queue[any]
	userQ    [lanes]queue[any]
	credits  [lanes]int
	handling any
}

func newMailbox(log *slog.Logger, panics func()) actor.MailboxProducer {
	return func() actor.Mailbox {
		m := &mailbox{log: log, panics: panics, credits: weights}
		m.turn = m.process
		return m
	}
}

func (m *mailbox) RegisterHandlers(i actor.MessageInvoker, d actor.Dispatcher) {
	m.invoker, m.dispatcher = i, d
}

func (m *mailbox) Start() {}

func (m *mailbox) UserMessageCount() int { return int(m.waiting.Load()) }

func (m *mailbox) PostUserMessage(message any) {
	inner := message
	if envelope, ok := message.(*actor.MessageEnvelope); ok {
		inner = envelope.Message
	}
	at := newWork
	switch msg := inner.(type) {
	case laned:
		at = msg.lane()
	case *actor.PoisonPill:
		at = background // stop once all else is done
	}
	m.mu.Lock()
	m.userQ[at].push(message)
	m.mu.Unlock()
	m.waiting.Add(1)
	m.schedule()
}

func (m *mailbox) PostSystemMessage(message any) {
	m.mu.Lock()
	m.systemQ.push(message)
	m.mu.Unlock()
	m.system.Add(1)
	m.schedule()
}

func (m *mailbox) schedule() {
	if m.scheduled.CompareAndSwap(false, true) {
		m.dispatcher.Schedule(m.turn)
	}
}

func (m *mailbox) process() {
	for {
		m.run()
		m.scheduled.Store(false)
		// A message may have come between the last look and the store above.
		idle := m.system.Load() == 0 && (m.suspended.Load() || m.waiting.Load() == 0)
		if idle || !m.scheduled.CompareAndSwap(false, true) {
			return
		}
	}
}

func (m *mailbox) run() {
	defer func() {
		if r := recover(); r != nil {
			m.panics()
			m.log.Error("actor panicked", "message", fmt.Sprintf("%T", m.handling),
				"panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			m.invoker.EscalateFailure(r, m.handling)
		}
	}()
	for {
		if m.handling = m.popSystem(); m.handling != nil {
			switch m.handling.(type) {
			case *actor.SuspendMailbox:
				m.suspended.Store(true)
			case *actor.ResumeMailbox:
				m.suspended.Store(false)
			default:
				m.invoker.InvokeSystemMessage(m.handling)
			}
			continue
		}
		if m.suspended.Load() {
			return
		}
		if m.handling = m.popUser(); m.handling == nil {
			return
		}
		m.invoker.InvokeUserMessage(m.handling)
	}
}

func (m *mailbox) popSystem() any {
	if m.system.Load() == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	message, ok := m.systemQ.pop()
	if ok {
		m.system.Add(-1)
	}
	return message
}

// popUser takes from the first lane that has both messages and credit; when
// every lane with messages has used its credit up, all get theirs anew.
func (m *mailbox) popUser() any {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range 2 {
		for l := range m.userQ {
			if m.credits[l] == 0 {
				continue
			}
			if message, ok := m.userQ[l].pop(); ok {
				m.credits[l]--
				m.waiting.Add(-1)
				return message
			}
		}
		m.credits = weights
	}
	return nil
}

// queue is first in, first out, on a slice that is reused once empty.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) push(item T) { q.items = append(q.items, item) }

// peek is the next item, which stays.
func (q *queue[T]) peek() (item T, ok bool) {
	if q.head == len(q.items) {
		return item, false
	}
	return q.items[q.head], true
}

func (q *queue[T]) pop() (item T, ok bool) {
	if q.head == len(q.items) {
		return item, false
	}
	var none T
	item, q.items[q.head] = q.items[q.head], none
	q.head++
	switch {
	case q.head < len(q.items):
		if q.head > shrinkAbove && q.head > len(q.items)/2 { // a queue that never empties must not grow for ever
			q.items = append(q.items[:0:0], q.items[q.head:]...)
			q.head = 0
		}
	case cap(q.items) > shrinkAbove:
		q.items, q.head = nil, 0
	default:
		q.items, q.head = q.items[:0], 0
	}
	return item, true
}
