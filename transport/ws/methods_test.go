package ws

import "testing"

func TestMethodWithoutAScopeMakesNoHandler(t *testing.T) {
	for name, methods := range map[string][]method{
		"no scope": {asked("fly", "", (*watcher).ping)},
		"twice":    {asked("fly", Anyone, (*watcher).ping), asked("fly", Anyone, (*watcher).ping)},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was taken")
				}
			}()
			newHandler(Config{}, protocol{methods: methods})
		})
	}
}
