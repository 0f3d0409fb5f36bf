package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/troupe-run/troupe/runtime/access"
)

func serve(tb testing.TB, h http.HandlerFunc) string {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL + "/"
}

func TestIssuersAreReadFromYAMLAndJSON(t *testing.T) {
	const asYAML = `
- issuer: https://id.example.com
  audience: troupe
  jwks_url: https://id.example.com/jwks
  algorithms: [RS256, EdDSA]
  leeway: 1m
  max_lifetime: 8h
  namespace_claim: org
  namespaces: {acme-prod: acme}
  scope_claim: roles
  scopes:
    boss: [admin]
    hand: [workers, tasks:read]
- issuer: build
  audience: troupe
  keys_file: /etc/troupe/build.pem
  algorithms: [HS256]
  namespace: ci
`
	const asJSON = `[{"issuer":"https://id.example.com","audience":"troupe","jwks_url":"https://id.example.com/jwks",
		"algorithms":["RS256","EdDSA"],"leeway":"1m","max_lifetime":"8h","namespace_claim":"org","namespaces":{"acme-prod":"acme"},
		"scope_claim":"roles","scopes":{"boss":["admin"],"hand":["workers","tasks:read"]}},
		{"issuer":"build","audience":"troupe","keys_file":"/etc/troupe/build.pem","algorithms":["HS256"],"namespace":"ci"}]`
	want := []Issuer{{
		Name: "https://id.example.com", Audience: "troupe", JWKS: "https://id.example.com/jwks", Algorithms: []string{"RS256", "EdDSA"},
		Leeway: time.Minute, MaxLifetime: 8 * time.Hour, NamespaceClaim: "org", Namespaces: map[string]string{"acme-prod": "acme"},
		ScopeClaim: "roles", Scopes: map[string][]access.Scope{"boss": {access.Admin}, "hand": {access.Workers, access.TasksRead}},
	}, {
		Name: "build", Audience: "troupe", Keys: "/etc/troupe/build.pem", Algorithms: []string{"HS256"}, Namespace: "ci",
		Leeway: defaultLeeway, MaxLifetime: defaultLifetime, ScopeClaim: "scope",
	}}
	for _, text := range []string{asYAML, asJSON} {
		got, err := ParseIssuers([]byte(text))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
		if err := checkIssuers(got); err != nil {
			t.Errorf("what was read is not read again: %v", err)
		}
	}
	if got, err := ParseIssuers(nil); len(got) > 0 || err != nil {
		t.Errorf("nothing is %v, %v", got, err)
	}
	got, err := ParseIssuers([]byte(`[{issuer: x, audience: y, keys_file: z}]`))
	if err != nil || !cmp.Equal(got[0].Algorithms, []string{"RS256", "ES256", "EdDSA"}) {
		t.Errorf("allowed when nothing is said: %+v, %v", got, err)
	}
}

func TestIssuersThatMakeNoSenseAreRefused(t *testing.T) {
	const good = "issuer: x, audience: y, keys_file: z"
	const remote = "issuer: x, audience: y, jwks_url: "
	for text, part := range map[string]string{
		"[{audience: y, keys_file: z}]":                               "issuer is missing",
		"[{issuer: x, keys_file: z}]":                                 "audience is missing",
		"[{issuer: x, audience: y}]":                                  "either",
		"[{" + good + ", jwks_url: 'https://x'}]":                     "either",
		"[{" + good + ", nmespace: x}]":                               "nmespace",
		"[{" + good + "}, {" + good + "}]":                            "twice",
		"[{" + good + ", algorithms: [none]}]":                        "none",
		"[{" + good + ", algorithms: [RS512]}]":                       "RS512",
		"[{" + good + ", leeway: 10m}]":                               "leeway",
		"[{" + good + ", leeway: -1s}]":                               "leeway",
		"[{" + good + ", leeway: long}]":                              "long",
		"[{" + good + ", max_lifetime: -1s}]":                         "max_lifetime",
		"[{" + good + ", namespace: 'A b'}]":                          "namespace",
		"[{" + good + ", namespace: a, namespace_claim: b}]":          "fixed",
		"[{" + good + ", namespaces: {a: 'A b'}}]":                    "namespaces",
		"[{" + good + ", scopes: {a: [root]}}]":                       "root",
		"[{" + remote + "'http://id.example.com/'}]":                  "https",
		"[{" + remote + "'http://192.0.2.1/'}]":                       "https",
		"[{" + remote + "'http://localhost.example.com/'}]":           "https",
		"[{" + remote + "'file:///etc/passwd'}]":                      "jwks_url",
		"[{" + remote + "'https://a:b@x/'}]":                          "password",
		"[{" + remote + "'https://x/', algorithms: [HS256]}]":         "keys_file",
		"{" + good + "}":                                              "read issuers",
		"[{" + good + "}]\n---\n[]":                                   "behind",
		"[" + strings.Repeat("{issuer: x}, ", maxIssuers) + "{}, {}]": "more than",
	} {
		got, err := ParseIssuers([]byte(text))
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "127.8.8.8", "[::ffff:127.0.0.1]"} {
		if _, err := ParseIssuers([]byte("[{" + remote + "'http://" + host + ":8080/'}]")); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func FuzzParseIssuers(f *testing.F) {
	f.Add([]byte("[{issuer: x, audience: y, keys_file: z}]"))
	f.Add([]byte("- &a [*a]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if issuers, err := ParseIssuers(raw); err == nil && checkIssuers(issuers) != nil {
			t.Fatalf("%q is read, but not taken", raw)
		}
	})
}
