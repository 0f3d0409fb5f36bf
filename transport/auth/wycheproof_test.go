package auth

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
)

type vectors struct {
	NumberOfTests int
	TestGroups    []struct {
		Comment         string
		Public, Private json.RawMessage
		Tests           []vector
	}
}

type vector struct {
	ID      int `json:"tcId"`
	Comment string
	JWS     json.RawMessage
	Result  string
}

// corrected are the vectors whose label is not the right verdict, by RFC 7515 and 7517.
var corrected = map[int]string{
	// Byte for byte the valid vector 357: C2SP/wycheproof#236.
	367: "valid", 370: "valid",
	// A "?" in what has to be base64url, inserted after the MAC was made.
	372: "invalid", 373: "invalid",
	// The signature is good, but the key says that it is for another algorithm: PS256 where
	// the token has PS384, or ES521, which there is not. See below.
	346: "invalid", 350: "invalid", 347: "invalid", 351: "invalid",
}

// signatureOnly are the last four above without what their key says of its algorithm.
var signatureOnly = []int{346, 347, 350, 351}

func TestEveryVectorOfWycheproofGetsTheRightVerdict(t *testing.T) {
	raw, err := os.ReadFile("testdata/wycheproof/json_web_signature_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var all vectors
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	// More than any issuer may be allowed: the vectors are about signatures.
	every := []string{"HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	count := 0
	for _, g := range all.TestGroups {
		jwk := g.Public
		if jwk == nil {
			jwk = g.Private
		}
		for _, v := range g.Tests {
			count++
			want := v.Result
			if other, ok := corrected[v.ID]; ok {
				want = other
			}
			if got := judge(t, jwk, v, every); got != want {
				t.Errorf("%d (%s, %s): %s, want %s", v.ID, g.Comment, v.Comment, got, want)
			}
			if slices.Contains(signatureOnly, v.ID) {
				if got := judge(t, withoutAlg(t, jwk), v, every); got != "valid" {
					t.Errorf("%d with a key for any algorithm: %s", v.ID, got)
				}
			}
			// What an issuer cannot be allowed is refused, whatever its signature.
			if alg := algOf(v); judge(t, jwk, v, algorithms) == "valid" && !slices.Contains(algorithms, alg) {
				t.Errorf("%d: %s is taken", v.ID, alg)
			}
		}
	}
	if count != 401 || count != all.NumberOfTests {
		t.Errorf("%d vectors, the file says %d, there should be 401", count, all.NumberOfTests)
	}
}

func judge(t *testing.T, jwk json.RawMessage, v vector, allowed []string) string {
	t.Helper()
	keys, err := readKeys(jwk)
	if err != nil {
		return "invalid"
	}
	s, err := split(textOf(v))
	if err == nil {
		err = s.verify(matching(keys, s.kid), allowed)
	}
	if err != nil {
		return "invalid"
	}
	return "valid"
}

// textOf is a vector's token; one of them is an object in place of a text.
func textOf(v vector) string {
	var text string
	if err := json.Unmarshal(v.JWS, &text); err != nil {
		return string(v.JWS)
	}
	return text
}

func algOf(v vector) string {
	s, err := split(textOf(v))
	if err != nil {
		return fmt.Sprintf("no token: %v", err)
	}
	return s.alg
}

func withoutAlg(t *testing.T, jwk json.RawMessage) json.RawMessage {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(jwk, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "alg")
	out, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
