package auth

import "container/list"

// lru is a map of at most so many entries: to make room, the one that was not
// touched for longest goes. Its owner locks it.
type lru[K comparable, V any] struct {
	most   int
	places map[K]*list.Element
	order  *list.List // of *entry, the newest first
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](most int) *lru[K, V] {
	return &lru[K, V]{most: most, places: make(map[K]*list.Element), order: list.New()}
}

func (l *lru[K, V]) get(k K) (V, bool) {
	at, ok := l.places[k]
	if !ok {
		var none V
		return none, false
	}
	l.order.MoveToFront(at)
	return at.Value.(*entry[K, V]).value, true
}

func (l *lru[K, V]) put(k K, v V) {
	if at, ok := l.places[k]; ok {
		at.Value.(*entry[K, V]).value = v
		l.order.MoveToFront(at)
		return
	}
	if l.order.Len() >= l.most {
		l.drop(l.order.Back())
	}
	l.places[k] = l.order.PushFront(&entry[K, V]{k, v})
}

func (l *lru[K, V]) remove(k K) {
	if at, ok := l.places[k]; ok {
		l.drop(at)
	}
}

// forget drops those that a function says.
func (l *lru[K, V]) forget(gone func(V) bool) {
	for at := l.order.Front(); at != nil; {
		next := at.Next()
		if gone(at.Value.(*entry[K, V]).value) {
			l.drop(at)
		}
		at = next
	}
}

func (l *lru[K, V]) drop(at *list.Element) {
	delete(l.places, at.Value.(*entry[K, V]).key)
	l.order.Remove(at)
}
