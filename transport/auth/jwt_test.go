package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"pgregory.net/rapid"

	"github.com/troupe-run/troupe/runtime/access"
)

// signer signs tokens as an issuer does.
type signer struct {
	alg     jwa.SignatureAlgorithm
	kid     string
	private any
}

var (
	signers = sync.OnceValue(func() map[string]signer {
		must := func(k any, err error) any {
			if err != nil {
				panic(err)
			}
			return k
		}
		_, ed, err := ed25519.GenerateKey(rand.Reader)
		secret := make([]byte, minHMAC)
		_, _ = rand.Read(secret)
		return map[string]signer{
			"RS256": {jwa.RS256(), "rsa", must(rsa.GenerateKey(rand.Reader, 2048))},
			"ES256": {jwa.ES256(), "ec", must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))},
			"EdDSA": {jwa.EdDSA(), "ed", must(ed, err)},
			"HS256": {jwa.HS256(), "hmac", secret},
		}
	})
	weakRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) })
)

const issuerName = "https://id.example.com"

// claimsNow are those of a token that is good for an hour.
func claimsNow(change map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": issuerName, "aud": "troupe", "sub": "ada", "namespace": "team", "scope": "openid tasks:read tasks:write",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (s signer) sign(tb testing.TB, claims map[string]any) string {
	tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	h := jws.NewHeaders()
	if s.kid != "" {
		if err := h.Set(jws.KeyIDKey, s.kid); err != nil {
			tb.Fatal(err)
		}
	}
	token, err := jws.Sign(payload, jws.WithKey(s.alg, s.private, jws.WithProtectedHeaders(h)))
	if err != nil {
		tb.Fatal(err)
	}
	return string(token)
}

// jwks is the set of the signers' public keys, and of shared secrets.
func jwks(tb testing.TB, all ...signer) []byte {
	tb.Helper()
	set := jwk.NewSet()
	for _, s := range all {
		k, err := jwk.PublicKeyOf(s.private)
		if err != nil {
			tb.Fatal(err)
		}
		if s.kid != "" {
			if err := k.Set(jwk.KeyIDKey, s.kid); err != nil {
				tb.Fatal(err)
			}
		}
		if err := set.AddKey(k); err != nil {
			tb.Fatal(err)
		}
	}
	raw, err := json.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func file(tb testing.TB, content []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func ours() []signer {
	s := signers()
	return []signer{s["RS256"], s["ES256"], s["EdDSA"], s["HS256"]}
}

// trusting is a door that takes tokens of one issuer.
func trusting(tb testing.TB, change func(*Issuer)) *Door {
	tb.Helper()
	i := Issuer{Name: issuerName, Audience: "troupe", Algorithms: algorithms}
	if change != nil {
		change(&i)
	}
	if i.Keys == "" && i.JWKS == "" {
		i.Keys = file(tb, jwks(tb, ours()...))
	}
	return newDoor(tb, newAccounts(), func(c *Config) { c.JWT = []Issuer{i} })
}

func show(tb testing.TB, d *Door, token string) (access.Principal, string) {
	tb.Helper()
	p, err := d.Authenticate(from(home, token))
	return p, code(tb, err)
}

func TestTokenStandsForWhatItsClaimsSay(t *testing.T) {
	d := trusting(t, nil)
	for alg, s := range signers() {
		claims := claimsNow(nil)
		p, refusal := show(t, d, s.sign(t, claims))
		want := access.Principal{
			Namespace: "team", Actor: "jwt:ada", Scopes: scopes(access.TasksRead, access.TasksWrite),
			Expires: time.Unix(claims["exp"].(int64), 0).Add(defaultLeeway),
		}
		if diff := cmp.Diff(want, p); diff != "" || refusal != "" {
			t.Errorf("%s: %s %s", alg, refusal, diff)
		}
	}
}

func TestPEMIsTakenToo(t *testing.T) {
	var all []byte
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		public, err := jwk.PublicRawKeyOf(signers()[alg].private)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	d := trusting(t, func(i *Issuer) { i.Keys = file(t, all) })
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		if _, refusal := show(t, d, signers()[alg].sign(t, claimsNow(nil))); refusal != "" {
			t.Errorf("%s: %s", alg, refusal)
		}
	}
	// The confusion of old: the public key, as bytes that everybody has, for a secret.
	for _, secret := range [][]byte{all, bytes.TrimSpace(all)} {
		forged := signer{jwa.HS256(), "", secret}.sign(t, claimsNow(nil))
		if _, refusal := show(t, d, forged); refusal != "unauthorized" {
			t.Errorf("a public key is taken for a secret: %q", refusal)
		}
	}
}

func TestTokenWithoutASignatureIsRefused(t *testing.T) {
	d := trusting(t, nil)
	payload, err := json.Marshal(claimsNow(nil))
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signature := strings.Split(signers()["RS256"].sign(t, claimsNow(nil)), ".")[2]
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None"}`, `{"alg":"NONE"}`, `{"alg":""}`, `{}`, `{"alg":null}`, `{"alg":["RS256"]}`, `{"ALG":"RS256"}`, `null`, `[]`,
		`{"alg":"RS256","crit":["exp"],"exp":1}`, `{"alg":"RS256","b64":false}`, `{"alg":"RS256","kid":7}`, `{"alg":"RS384"}`, `{"alg":"PS256"}`, `{"alg":"HS512"}`,
	} {
		for _, s := range []string{"", signature, "AA"} {
			d.failures = newFailures()
			if _, refusal := show(t, d, encode([]byte(header))+"."+encode(payload)+"."+s); refusal != "unauthorized" {
				t.Errorf("%s, %q: %q", header, s, refusal)
			}
		}
	}
}

func TestChangedTokenIsRefused(t *testing.T) {
	d := trusting(t, nil)
	for alg, s := range signers() {
		token := s.sign(t, claimsNow(nil))
		rapid.Check(t, func(rt *rapid.T) {
			at := rapid.IntRange(0, len(token)-1).Draw(rt, "at")
			to := string(rapid.Byte().Draw(rt, "to"))
			for _, wrong := range []string{token[:at] + to + token[at+1:], token[:at] + token[at+1:], token[:at] + to + token[at:]} {
				if wrong == token {
					continue
				}
				if p, err := d.tokens.check(t.Context(), wrong, time.Now()); err == nil {
					rt.Fatalf("%s: %q is taken for %+v", alg, wrong, p)
				}
			}
		})
	}
}

func TestClaimsAreChecked(t *testing.T) { synctest.Test(t, checkClaims) }

func checkClaims(t *testing.T) {
	t.Helper()
	// Has all that it lacks, in what looks like a token itself.
	inner := strings.Split(signers()["HS256"].sign(t, claimsNow(nil)), ".")
	inside := map[string]any{"aud": nil, "payload": inner[1], "protected": inner[0], "signature": inner[2]}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, tt := range map[string]struct {
		claims  map[string]any
		refusal string
	}{
		"no exp":                   {map[string]any{"exp": nil}, "unauthorized"},
		"exp beyond all time":      {map[string]any{"exp": 1e300}, "unauthorized"},
		"exp far away":             {map[string]any{"exp": 1 << 62}, "unauthorized"},
		"exp before all time":      {map[string]any{"exp": -1e300}, "unauthorized"},
		"a token inside":           {inside, "unauthorized"},
		"exp a word":               {map[string]any{"exp": "never"}, "unauthorized"},
		"expired":                  {map[string]any{"iat": at(-2 * time.Hour), "exp": at(-time.Minute)}, "unauthorized"},
		"expired within leeway":    {map[string]any{"iat": at(-2 * time.Hour), "exp": at(-10 * time.Second)}, ""},
		"not yet":                  {map[string]any{"nbf": at(time.Minute)}, "unauthorized"},
		"not yet, within leeway":   {map[string]any{"nbf": at(10 * time.Second)}, ""},
		"of the future":            {map[string]any{"iat": at(time.Minute)}, "unauthorized"},
		"lives too long":           {map[string]any{"exp": at(25 * time.Hour)}, "unauthorized"},
		"lives long, without iat":  {map[string]any{"iat": nil, "exp": at(25 * time.Hour)}, "unauthorized"},
		"without iat":              {map[string]any{"iat": nil}, ""},
		"of another issuer":        {map[string]any{"iss": "https://evil.example.com"}, "unauthorized"},
		"of no issuer":             {map[string]any{"iss": nil}, "unauthorized"},
		"iss a number":             {map[string]any{"iss": 7}, "unauthorized"},
		"for others":               {map[string]any{"aud": "somebody"}, "unauthorized"},
		"for nobody":               {map[string]any{"aud": nil}, "unauthorized"},
		"for others and us":        {map[string]any{"aud": []string{"somebody", "troupe"}}, ""},
		"of nobody":                {map[string]any{"sub": nil}, "unauthorized"},
		"of somebody unprintable":  {map[string]any{"sub": "a\x00"}, "unauthorized"},
		"of somebody too long":     {map[string]any{"sub": strings.Repeat("x", 201)}, "unauthorized"},
		"no namespace":             {map[string]any{"namespace": nil}, "forbidden"},
		"a namespace that is none": {map[string]any{"namespace": "../team"}, "forbidden"},
		"two namespaces":           {map[string]any{"namespace": []string{"team", "others"}}, "forbidden"},
	} {
		d := trusting(t, nil)
		if _, refusal := show(t, d, signers()["ES256"].sign(t, claimsNow(tt.claims))); refusal != tt.refusal {
			t.Errorf("%s: %q, want %q", name, refusal, tt.refusal)
		}
	}
	if _, refusal := show(t, trusting(t, nil), signer{jwa.ES256(), "ec", signers()["ES256"].private}.sign(t, map[string]any{})); refusal != "unauthorized" {
		t.Errorf("without claims: %q", refusal)
	}
}

func TestClaimsAreMapped(t *testing.T) {
	keys := file(t, jwks(t, ours()...))
	for name, tt := range map[string]struct {
		issuer    func(*Issuer)
		claims    map[string]any
		namespace string // "": it is forbidden
		scopes    []access.Scope
	}{
		"as they are":      {nil, map[string]any{"scope": []string{"admin", "x", "admin"}}, "team", scopes(access.Admin)},
		"none":             {nil, map[string]any{"scope": nil}, "team", nil},
		"neither a text":   {nil, map[string]any{"scope": 7}, "team", nil},
		"nor only texts":   {nil, map[string]any{"scope": []any{7, "workers"}}, "team", scopes(access.Workers)},
		"fixed":            {func(i *Issuer) { i.Namespace = "mine" }, map[string]any{"namespace": "other"}, "mine", scopes(access.TasksRead, access.TasksWrite)},
		"mapped namespace": {func(i *Issuer) { i.Namespaces = map[string]string{"team": "prod"} }, nil, "prod", scopes(access.TasksRead, access.TasksWrite)},
		"unmapped one":     {func(i *Issuer) { i.Namespaces = map[string]string{"prod": "prod"} }, nil, "", nil},
		"by other names": {func(i *Issuer) { i.NamespaceClaim, i.ScopeClaim = "https://troupe/ns", "roles" }, map[string]any{
			"https://troupe/ns": "acme", "roles": []string{"workers", "tasks:write"},
		}, "acme", scopes(access.TasksWrite, access.Workers)},
		"by a path": {func(i *Issuer) { i.ScopeClaim = "realm.access.roles" }, map[string]any{
			"realm": map[string]any{"access": map[string]any{"roles": []string{"workers"}}},
		}, "team", scopes(access.Workers)},
		"by a path to nothing": {func(i *Issuer) { i.ScopeClaim = "sub.roles.x" }, nil, "team", nil},
		"mapped scopes": {func(i *Issuer) {
			i.Scopes = map[string][]access.Scope{"boss": {access.Admin}, "openid": {access.TasksRead}}
		}, map[string]any{"scope": "openid admin tasks:write"}, "team", scopes(access.TasksRead)},
	} {
		d := trusting(t, func(i *Issuer) {
			i.Keys = keys
			if tt.issuer != nil {
				tt.issuer(i)
			}
		})
		p, refusal := show(t, d, signers()["EdDSA"].sign(t, claimsNow(tt.claims)))
		if tt.namespace == "" {
			if refusal != "forbidden" {
				t.Errorf("%s: %q", name, refusal)
			}
			continue
		}
		if p.Namespace != tt.namespace || len(p.Scopes) != len(tt.scopes) || len(p.Scopes) > 0 && !cmp.Equal(p.Scopes, tt.scopes) || refusal != "" {
			t.Errorf("%s: %+v %q", name, p, refusal)
		}
	}
}

func TestKeyIsForItsAlgorithmAndIssuerAlone(t *testing.T) {
	rs, es := signers()["RS256"], signers()["ES256"]
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(jwks(t, rs, es), &set); err != nil {
		t.Fatal(err)
	}
	with := func(field string, value any) []byte {
		k := maps.Clone(set.Keys[0])
		k[field] = value
		raw, err := json.Marshal(map[string]any{"keys": []any{k, set.Keys[1]}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, tt := range map[string]struct {
		keys       []byte
		algorithms []string
		refusal    string
	}{
		"any":                   {with("x", 1), algorithms, ""},
		"the key says so":       {with("alg", "RS256"), algorithms, ""},
		"the key says other":    {with("alg", "RS512"), algorithms, "unauthorized"},
		"a key to encrypt with": {with("use", "enc"), algorithms, "unauthorized"},
		"a key to sign with":    {with("key_ops", []string{"sign"}), algorithms, "unauthorized"},
		"of another name":       {with("kid", "other"), algorithms, "unauthorized"},
		"of no kind":            {with("kty", "QUANTUM"), algorithms, "unauthorized"},
		"not allowed":           {with("x", 1), []string{"ES256"}, "unauthorized"},
	} {
		d := trusting(t, func(i *Issuer) { i.Keys, i.Algorithms = file(t, tt.keys), tt.algorithms })
		if _, refusal := show(t, d, rs.sign(t, claimsNow(nil))); refusal != tt.refusal {
			t.Errorf("%s: %q, want %q", name, refusal, tt.refusal)
		}
	}
	// Each issuer has its own keys.
	d := newDoor(t, newAccounts(), func(c *Config) {
		c.JWT = []Issuer{
			{Name: issuerName, Audience: "troupe", Keys: file(t, jwks(t, rs))},
			{Name: "other", Audience: "troupe", Keys: file(t, jwks(t, es))},
		}
	})
	for _, tt := range []struct {
		s       signer
		iss     string
		refusal string
	}{{rs, issuerName, ""}, {es, "other", ""}, {rs, "other", "unauthorized"}, {es, issuerName, "unauthorized"}} {
		if _, refusal := show(t, d, tt.s.sign(t, claimsNow(map[string]any{"iss": tt.iss}))); refusal != tt.refusal {
			t.Errorf("%s of %s: %q", tt.s.kid, tt.iss, refusal)
		}
	}
}

func TestWeakKeysAreNotTaken(t *testing.T) {
	weak, err := weakRSA()
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]byte{
		"RSA of 1024 bits": fmt.Appendf(nil, `{"kty":"RSA","e":"AQAB","n":%q}`, base64.RawURLEncoding.EncodeToString(weak.N.Bytes())), "a short secret": jwks(t, signer{private: make([]byte, 31)}),
		"nothing": []byte("{}"), "no JSON": []byte("keys!"), "an empty set": []byte(`{"keys":[]}`), "a broken PEM": []byte("-----BEGIN PUBLIC KEY-----\nAA"),
		"too much":      append(jwks(t, ours()...), bytes.Repeat([]byte(" "), maxKeySet)...),
		"too many keys": []byte(`{"keys":[` + strings.Repeat("{},", maxKeys) + "{}]}"),
	} {
		if _, err := New(Config{Secret: testSecret(t), Accounts: newAccounts(), JWT: []Issuer{{Name: "x", Audience: "y", Keys: file(t, keys)}}}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := New(Config{Secret: testSecret(t), Accounts: newAccounts(), JWT: []Issuer{{Name: "x", Audience: "y", Keys: "/nowhere"}}}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestTokenThatWasGoodIsNotSlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		i := Issuer{Name: issuerName, Audience: "troupe", Keys: file(t, jwks(t, ours()...))}
		d := newDoor(t, newAccounts(), func(c *Config) {
			c.JWT = []Issuer{i}
			c.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		good, unseen := signers()["RS256"].sign(t, claimsNow(nil)), signers()["ES256"].sign(t, claimsNow(nil))
		if _, refusal := show(t, d, good); refusal != "" {
			t.Fatal(refusal)
		}
		forged := good[:len(good)-10] + "AAAAAAAAAA"
		for range freeFailures {
			if _, refusal := show(t, d, forged); refusal != "unauthorized" {
				t.Fatal(refusal)
			}
		}
		for token, want := range map[string]string{forged: "rate_limited", unseen: "rate_limited", good: ""} {
			if _, refusal := show(t, d, token); refusal != want {
				t.Errorf("%q, want %q", refusal, want)
			}
		}
		time.Sleep(2 * time.Hour)
		if _, refusal := show(t, d, good); refusal != "unauthorized" {
			t.Errorf("good once is good for ever: %q", refusal)
		}
		for _, token := range []string{good, forged, unseen} {
			if strings.Contains(logged.String(), strings.Split(token, ".")[2]) {
				t.Errorf("a signature is logged: %s", logged.String())
			}
		}
		if !strings.Contains(logged.String(), errSignature.Error()) {
			t.Errorf("nobody learns why: %s", logged.String())
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AA")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := split(text)
		if err != nil {
			return
		}
		parts := strings.Split(text, ".")
		if len(parts) != 3 || parts[1] != base64.RawURLEncoding.EncodeToString(s.payload) {
			t.Fatalf("%q has more than one text", text)
		}
		if s.verify([]key{{material: []byte("not the secret that it was signed by")}}, algorithms) == nil {
			t.Fatalf("%q is signed by nobody", text)
		}
	})
}

// ring is a keyring whose keys a test gives.
func ring(load func(context.Context) ([]key, error)) *keyring {
	r := newKeyring(Issuer{Name: "x", JWKS: "https://x"}, time.Now, slog.New(slog.DiscardHandler))
	r.load = load
	return r
}

func TestKeysAreReadOnceForAllAndAgainForANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, err, loads := []key{{kid: "a"}}, error(nil), 0
		r := ring(func(context.Context) ([]key, error) {
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			loads++
			return now, err
		})
		find := func(kid string) string {
			keys, err := r.find(t.Context(), kid)
			return fmt.Sprintf("%d %v", len(keys), err)
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := find("a"); got != "1 <nil>" {
					t.Error(got)
				}
			})
		}
		if all.Wait(); loads != 1 {
			t.Errorf("read %d times", loads)
		}
		mu.Lock()
		now = []key{{kid: "b"}}
		mu.Unlock()
		for range 100 {
			if got := find("b"); got != "0 <nil>" {
				t.Error("a new key is asked for at once", got)
			}
		}
		time.Sleep(fetchAgain)
		if got := find("b"); got != "1 <nil>" || loads != 2 {
			t.Errorf("a new key is not found: %s after %d", got, loads)
		}
		if got := find("a"); got != "0 <nil>" {
			t.Errorf("an old key is: %s", got)
		}
		mu.Lock()
		err = errNotKeys
		mu.Unlock()
		for range 23 {
			time.Sleep(time.Hour)
			if got := find("b") + find("c"); got != "1 <nil>0 <nil>" {
				t.Fatal(got)
			}
		}
		time.Sleep(2 * time.Hour)
		if got := find("b"); got != fmt.Sprintf("0 %v", errKeysAway) {
			t.Errorf("keys are believed for ever: %s", got)
		}
	})
}

func TestKeysAreReadAgainWithoutBeingAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := file(t, jwks(t, signers()["RS256"]))
		d := newDoor(t, newAccounts(), func(c *Config) { c.JWT = []Issuer{{Name: issuerName, Audience: "troupe", Keys: path}} })
		running(t, d)
		old, renewed := signers()["RS256"].sign(t, claimsNow(nil)), signers()["ES256"].sign(t, claimsNow(nil))
		if err := os.WriteFile(path, jwks(t, signers()["ES256"]), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * fileEvery)
		for token, want := range map[string]string{old: "unauthorized", renewed: ""} {
			if _, refusal := show(t, d, token); refusal != want {
				t.Errorf("%q, want %q", refusal, want)
			}
		}
		if err := os.WriteFile(path, []byte("half a fi"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * fileEvery)
		if _, refusal := show(t, d, renewed); refusal != "" {
			t.Errorf("a broken file takes the keys away: %q", refusal)
		}
	})
}

func TestKeysAreFetched(t *testing.T) {
	set := jwks(t, signers()["RS256"], signers()["HS256"])
	for name, tt := range map[string]struct {
		answer  http.HandlerFunc
		refusal string
	}{
		"as they should be": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }, ""},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			_, _ = w.Write(set)
		}, "issuer_unavailable"},
		"not at all":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "issuer_unavailable"},
		"as nonsense": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "issuer_unavailable"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			for range 2 * maxKeySet / 1024 {
				_, _ = w.Write(bytes.Repeat([]byte(" "), 1024))
			}
			_, _ = w.Write(set)
		}, "issuer_unavailable"},
	} {
		d := trusting(t, func(i *Issuer) { i.JWKS, i.Algorithms = serve(t, tt.answer), []string{"RS256"} })
		_, refusal := show(t, d, signers()["RS256"].sign(t, claimsNow(nil)))
		for tries := 1; tt.refusal == "" && refusal != "" && tries < 5; tries++ { // the time for a fetch may pass where the machine stands still
			d = trusting(t, func(i *Issuer) { i.JWKS, i.Algorithms = serve(t, tt.answer), []string{"RS256"} })
			_, refusal = show(t, d, signers()["RS256"].sign(t, claimsNow(nil)))
		}
		if refusal != tt.refusal {
			t.Errorf("%s: %q, want %q", name, refusal, tt.refusal)
		}
		if _, refusal := show(t, d, signers()["HS256"].sign(t, claimsNow(nil))); refusal == "" {
			t.Errorf("%s: a secret that everybody can read is believed", name)
		}
	}
	d := trusting(t, func(i *Issuer) { i.JWKS, i.Algorithms = "http://127.0.0.1:1/", []string{"RS256"} })
	_, err := d.Authenticate(from(home, signers()["RS256"].sign(t, claimsNow(nil))))
	if p := refused(t, err); p == nil || p.Status != http.StatusServiceUnavailable || p.RetryAfter == 0 {
		t.Errorf("nobody there: %+v", p)
	}
}
