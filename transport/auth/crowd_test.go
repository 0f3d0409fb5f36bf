package auth

import (
	"testing"

	"github.com/troupe-run/troupe/runtime/access"
)

func TestWhatLastsIsCountedByWhoseItIs(t *testing.T) {
	c := &Crowd{Quota: func(namespace string) int { return map[string]int{"small": 2}[namespace] }}
	enter := func(namespace, actor string) func() {
		leave, err := c.Enter(access.Principal{Namespace: namespace, Actor: actor})
		if err != nil {
			return nil
		}
		return leave
	}
	one, two := enter("small", "key:1"), enter("small", "key:2")
	if one == nil || two == nil || enter("small", "key:3") != nil || enter("large", "key:3") == nil {
		t.Fatal("small may have two, and large any number")
	}
	one()
	one()
	if enter("small", "key:3") == nil || enter("small", "key:4") != nil {
		t.Error("who left twice made room for two")
	}
	for range mostStreams {
		if enter("large", "key:5") == nil || enter("large", Nobody) == nil {
			t.Fatal("it may have more")
		}
	}
	if enter("large", "key:5") != nil || enter("large", Nobody) == nil {
		t.Error("a credential has a bound, and nobody has none")
	}
	if leave, err := (*Crowd)(nil).Enter(access.Principal{}); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}
