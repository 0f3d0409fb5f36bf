package task

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The amounts are what Kubernetes' resource.Quantity gives as MilliValue.
func TestQuantityIsReadAsKubernetesDoes(t *testing.T) {
	for s, want := range map[string]Quantity{
		"0": 0, "-0": 0, "+1": 1000, "1": 1000, "1.": 1000, ".5": 500, "1.5": 1500, "0.1": 100, "00012": 12_000,
		"1m": 1, "500m": 500, "1500m": 1500, "0.5m": 1, "1u": 1, "1500u": 2, "1n": 1, "1000000n": 1, "1000001n": 2, "0n": 0,
		"1k": 1_000_000, "1M": 1e9, "1G": 1e12, "1T": 1e15, "1P": 1e18, "0.001E": 1e18, "9P": 9e18,
		"1Ki": 1_024_000, "512Mi": 512 << 20 * 1000, "1.5Gi": 3 << 29 * 1000, "1Ti": 1 << 40 * 1000, "8Pi": 8 << 50 * 1000, "0.001Ei": 1152921504606846976,
		"1e3": 1_000_000, "1E3": 1_000_000, "1e+3": 1_000_000, "1e-3": 1, "12.5e2": 1_250_000, "1e-9": 1, "1e0": 1000,
		"0.0001": 1, "1.0001": 1001, "1.0009": 1001, "1.001": 1001, "0.0010": 1, "1e-99": 1, "0e999": 0,
		"9223372036854775807m": MaxQuantity, "9223372036854775.807": MaxQuantity, "9223372036854775.8061": MaxQuantity,
	} {
		if got, err := ParseQuantity(s); err != nil || got != want {
			t.Errorf("%q was read as %d, %v; want %d", s, int64(got), err, int64(want))
		}
	}
}

func TestWhatIsNoQuantityIsRefused(t *testing.T) {
	for _, s := range []string{
		"", " ", "1 ", " 1", "a", "m", "Ki", "E", ".", "+", "-", "--1", "+-1", "1..2", "1.2.3", "1,5", "1_000", "0x10", "1/2", "Inf", "NaN",
		"1K", "1ki", "1mi", "1g", "1i", "1Kii", "1KiB", "1kk", "1mm", "1e", "1e+", "1e+-5", "1e1.5", "1e3k", "1e3Ki", "1Ek", "1E3M", "e3", "1e9999", "1e-999", "１",
		"-1", "-1m", "-0.0001", "-1e3", "-1n",
		"9223372036854775808m", "9223372036854775.8071", "1E", "10P", "9Pi", "1e16", "1e999", "\xff",
		strings.Repeat("0", maxQuantityText) + "1", "0." + strings.Repeat("0", 1<<20),
	} {
		got, err := ParseQuantity(s)
		if !errors.Is(err, ErrInvalid) || got != 0 {
			t.Errorf("%.80q was read as %d, %v", s, int64(got), err)
		} else if len(err.Error()) > 200 {
			t.Errorf("the refusal has %d bytes", len(err.Error()))
		}
	}
	if _, err := ParseQuantity(strings.Repeat("0", maxQuantityText-1) + "1"); err != nil {
		t.Errorf("the longest text there may be: %v", err)
	}
}

func TestQuantityIsReadAsItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := Quantity(rapid.Int64Range(0, math.MaxInt64).Draw(t, "milli") >> rapid.IntRange(0, 62).Draw(t, "shift"))
		if rapid.Bool().Draw(t, "whole") {
			q -= q % 1000
		}
		if got, err := ParseQuantity(q.String()); err != nil || got != q {
			t.Fatalf("%d was written as %v and read as %d, %v", int64(q), q, int64(got), err)
		}
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		var got Quantity
		if err := json.Unmarshal(text, &got); err != nil || got != q {
			t.Fatalf("%d was written as %s and read as %d, %v", int64(q), text, int64(got), err)
		}
	})
}

func TestQuantityIsWrittenInOneWay(t *testing.T) {
	for _, tt := range []struct {
		q            Quantity
		text, inJSON string
	}{
		{0, "0", `0`},
		{1, "1m", `"1m"`},
		{1500, "1500m", `"1500m"`},
		{2000, "2", `2`},
		{1_023_000, "1023", `1023`},
		{1_024_000, "1Ki", `"1Ki"`},
		{1_025_000, "1025", `"1025"`},
		{512 << 20 * 1000, "512Mi", `"512Mi"`},
		{1536 << 20 * 1000, "1536Mi", `"1536Mi"`},
		{1 << 50 * 1000, "1Pi", `"1Pi"`},
		{MaxQuantity, "9223372036854775807m", `"9223372036854775807m"`},
	} {
		inJSON, err := json.Marshal(tt.q)
		if tt.q.String() != tt.text || string(inJSON) != tt.inJSON || err != nil {
			t.Errorf("%d is written %v and %s, %v", int64(tt.q), tt.q, inJSON, err)
		}
	}
	if got := Quantity(1500).Units(); got != 1.5 {
		t.Errorf("1500m are %v units", got)
	}
}

func TestQuantityInJSONIsANumberOrAString(t *testing.T) {
	for text, want := range map[string]Quantity{
		`2`: 2000, `1.5`: 1500, `0.0001`: 1, `1e3`: 1_000_000, `1E2`: 100_000, `"500m"`: 500, `"512Mi"`: 512 << 20 * 1000, `"\u0032"`: 2000,
	} {
		var q Quantity
		if err := json.Unmarshal([]byte(text), &q); err != nil || q != want {
			t.Errorf("%s was read as %d, %v", text, int64(q), err)
		}
	}
	for _, text := range []string{`-1`, `true`, `[]`, `{}`, `""`, `"a"`, `1e400`, `"-1"`} {
		q := Quantity(7)
		if err := json.Unmarshal([]byte(text), &q); !errors.Is(err, ErrInvalid) || q != 7 {
			t.Errorf("%s was read as %d, %v", text, int64(q), err)
		}
	}
	q := Quantity(7)
	if err := q.UnmarshalJSON([]byte(`"\x"`)); err == nil || q != 7 {
		t.Errorf("a broken string was read as %d, %v", int64(q), err)
	}
}

func FuzzParseQuantity(f *testing.F) {
	for _, s := range []string{"", "1", "1.5Gi", "100m", "1e3", "1E", "-1", "0.0000000001", "9223372036854775807m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuantity(s)
		if err != nil {
			return
		}
		if again, err := ParseQuantity(q.String()); err != nil || again != q || q < 0 {
			t.Errorf("%q was read as %d, that as %d, %v", s, int64(q), int64(again), err)
		}
		// Never less than was said, and less than a thousandth more.
		if said, ok := new(big.Rat).SetString(s); ok {
			said.Mul(said, big.NewRat(1000, 1))
			over := new(big.Rat).Sub(big.NewRat(int64(q), 1), said)
			if over.Sign() < 0 || over.Cmp(big.NewRat(1, 1)) >= 0 {
				t.Errorf("%q was read as %d thousandths", s, int64(q))
			}
		}
	})
}

func TestEqualDemandsHaveEqualTexts(t *testing.T) {
	if got := (Resources{"memory": 512 << 20 * 1000, "cpu": 1500, "gpu": 0, "a": 1000}).String(); got != "a=1,cpu=1500m,memory=512Mi" {
		t.Error(got)
	}
	all := Resources{"memory": 512 << 20 * 1000, "cpu": 1500, "a": 1000}
	if got := ReadResources(all.String()); got.String() != all.String() || len(ReadResources("")) != 0 {
		t.Errorf("read as %v", got)
	}
	if got := ReadResources("cpu=many"); got["cpu"] != MaxQuantity {
		t.Errorf("read as %v", got)
	}
	lane := Task{Spec: Spec{Namespace: "n", Queue: "q", Kind: "k", Resources: Resources{"slots": 1000}}}.Lane()
	if lane != (Lane{Namespace: "n", Queue: "q", Kind: "k", Demand: "slots=1"}) {
		t.Errorf("%+v", lane)
	}
}
