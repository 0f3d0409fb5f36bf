package task

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Quantity is an amount of a resource in thousandths of its unit: one CPU is
// 1000, one byte of memory is 1000.
type Quantity int64

// maxQuantityText bounds what is parsed at all.
const maxQuantityText = 64

var suffixes = map[string]*big.Rat{
	"n": big.NewRat(1, 1e9), "u": big.NewRat(1, 1e6), "m": big.NewRat(1, 1e3), "": big.NewRat(1, 1),
	"k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1),
	"T": big.NewRat(1e12, 1), "P": big.NewRat(1e15, 1), "E": big.NewRat(1e18, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1),
	"Ti": big.NewRat(1<<40, 1), "Pi": big.NewRat(1<<50, 1), "Ei": big.NewRat(1<<60, 1),
}

// ParseQuantity reads a Kubernetes quantity that is not negative ("500m", "2",
// "1.5", "512Mi", "1e3"). What is finer than a thousandth is rounded up, as
// Kubernetes does.
func ParseQuantity(s string) (Quantity, error) {
	refuse := func(why string) (Quantity, error) {
		return 0, fmt.Errorf("quantity %q: %s: %w", clip(s, maxQuantityText), why, ErrInvalid)
	}
	if len(s) > maxQuantityText {
		return refuse("too long")
	}
	number := strings.TrimRight(s, "numkKMGTPEi")
	if number == "" {
		return refuse("no number")
	}
	factor, known := suffixes[s[len(number):]]
	if !known {
		return refuse("unknown suffix")
	}
	mantissa, exponent, scientific := strings.Cut(strings.ReplaceAll(number, "E", "e"), "e")
	if !decimal(mantissa) || scientific && (!integer(exponent) || len(exponent) > 3 || s != number) {
		return refuse("not a number")
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return refuse("not a number")
	}
	value.Mul(value, factor).Mul(value, big.NewRat(1000, 1))
	milli, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		milli.Add(milli, big.NewInt(1))
	}
	switch {
	case value.Sign() < 0:
		return refuse("negative")
	case !milli.IsInt64():
		return refuse("too large")
	}
	return Quantity(milli.Int64()), nil
}

// decimal accepts 12, 1.5, .5 and 1., perhaps with a sign in front.
func decimal(s string) bool {
	s = strings.TrimLeft(s, "+-")
	whole, fraction, _ := strings.Cut(s, ".")
	return whole+fraction != "" && digits(whole) && digits(fraction)
}

func integer(s string) bool {
	s = strings.TrimLeft(s, "+-")
	return s != "" && digits(s)
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// String gives the amount's one canonical text, which Kubernetes would read
// alike: "500m" where it is no whole number of units, else that number with the
// greatest binary suffix that divides it.
func (q Quantity) String() string {
	if q%1000 != 0 {
		return strconv.FormatInt(int64(q), 10) + "m"
	}
	units := int64(q / 1000)
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"Ei", 1 << 60}, {"Pi", 1 << 50}, {"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}} {
		if units != 0 && units%u.size == 0 {
			return strconv.FormatInt(units/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(units, 10)
}

// MarshalJSON writes a whole number of units below 2^10 as a number, all else
// as a quantity string.
func (q Quantity) MarshalJSON() ([]byte, error) {
	if q%1000 == 0 && q/1000 < 1<<10 {
		return strconv.AppendInt(nil, int64(q/1000), 10), nil
	}
	return strconv.AppendQuote(nil, q.String()), nil
}

// UnmarshalJSON reads a number or a quantity string.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return fmt.Errorf("quantity: %w", err)
		}
	}
	parsed, err := ParseQuantity(text)
	if err != nil {
		return err
	}
	*q = parsed
	return nil
}

// Units is the amount in whole units, as a float for people and metrics.
func (q Quantity) Units() float64 { return float64(q) / 1000 }

// MaxQuantity is the greatest amount that can be spoken of.
const MaxQuantity = Quantity(math.MaxInt64)

// String is the canonical text of a demand, names in order, zeros left out:
// "cpu=2,memory=512Mi". Equal demands have equal texts.
func (r Resources) String() string {
	if r[SlotResource] == one && len(r) == 1 {
		return SlotResource + "=1" // most, and asked for often
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if r[name] == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name + "=" + r[name].String())
	}
	return b.String()
}

// ReadResources reads what [Resources.String] gave. What it cannot read it takes for
// more than anybody has.
func ReadResources(text string) Resources {
	r := Resources{}
	for part := range strings.SplitSeq(text, ",") {
		if name, amount, ok := strings.Cut(part, "="); ok {
			q, err := ParseQuantity(amount)
			if err != nil {
				q = MaxQuantity
			}
			r[name] = q
		}
	}
	return r
}
