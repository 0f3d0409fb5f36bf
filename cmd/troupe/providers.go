package main

import (
	"strings"

	"github.com/troupe-run/troupe/runtime/kinds/llm"
)

// checkProviders reads who may be asked, and with which keys.
func checkProviders(texts map[string]string, refuse func(name, format string, args ...any)) map[string]llm.Provider {
	addresses, err := parseNamed(texts["llm-provider"])
	if err != nil {
		refuse("llm-provider", "%s", err)
	}
	providers := make(map[string]llm.Provider, len(addresses))
	for name, address := range addresses {
		if providers[name], err = llm.ParseProvider(address); err != nil {
			refuse("llm-provider", "%s: %s", name, err)
		}
	}
	keys, err := parseNamed(texts["llm-key"])
	if err != nil {
		refuse("llm-key", "%s", err)
	}
	for name, key := range keys {
		p, known := providers[name]
		if !known {
			refuse("llm-key", "there is no llm-provider %s", name)
		}
		p.Key = key
		providers[name] = p
	}
	return providers
}

// takeKeys gives the keys that stand in the environment under the names everybody
// uses to the companies they are from, and to no other server of the same protocol.
func (k kindSettings) takeKeys(env func(string) string) {
	for name, p := range k.llm {
		if p.Key == "" && p.IsOfficial() {
			p.Key = strings.TrimSpace(env(strings.ToUpper(p.Type) + "_API_KEY"))
			k.llm[name] = p
		}
	}
}
