package transport

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/troupe-run/troupe/runtime/task"
)

func TestDecodeTakesWhatIsRight(t *testing.T) {
	jitter, paused := 0.0, true
	tests := []struct {
		text string
		into any
		want any
	}{
		{
			"\n{ \"k\\u0069nd\" : \"a\\\"b\" , \"payload\":{\"x\": 1.10, \"x\":[ ]} ,\t\"labels\":{},\"resources\":{\"cpu\":\"1500m\"},\"retry\":{\"factor\":2,\"jitter\":0} } ",
			new(Submission),
			&Submission{
				Kind: `a"b`, Payload: json.RawMessage(`{"x": 1.10, "x":[ ]}`), Labels: map[string]string{},
				Resources: task.Resources{"cpu": 1500}, Retry: &RetrySubmission{Factor: 2, Jitter: &jitter},
			},
		},
		{`{"kind":null,"payload":null,"retry":null,"priority":null,"run_at":null}`, new(Submission), &Submission{Payload: json.RawMessage("null")}},
		{`{"tasks":[{"kind":"a"} , {"priority":-5}]}`, new(Batch), &Batch{Tasks: []Submission{{Kind: "a"}, {Priority: -5}}}},
		{`{"tasks":[ ]}`, new(Batch), &Batch{}},
		{`{"paused":true}`, new(QueueChange), &QueueChange{Paused: &paused}},
		{`{}`, new(QueueChange), &QueueChange{}},
		{`{"reason":"\ud800"}`, new(Cancel), &Cancel{Reason: "\ufffd"}},
	}
	for _, tt := range tests {
		if err := Decode([]byte(tt.text), tt.into); err != nil {
			t.Errorf("%s: %v", tt.text, err)
		} else if diff := cmp.Diff(tt.want, tt.into, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", tt.text, diff)
		}
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	long := strings.Repeat("é", 80)
	for _, tt := range []struct {
		into any
		text string
		want map[string]string
	}{
		{new(Submission), `[]`, map[string]string{"": "must be an object"}},
		{new(Submission), `{"kind":1,"priority":1.5,"labels":"x","resources":{"cpu":null,"gpu":1,"gpu":2},"retry":[],"deadline":"x"}`, map[string]string{
			"kind": "must be a string", "priority": "must be a whole number", "labels": "must be an object", "resources.cpu": `must be a quantity such as 2, "500m" or "512Mi"`,
			"resources.gpu": "is given twice", "retry": "must be an object", "deadline": `must be a time such as "2006-01-02T15:04:05Z"`,
		}},
		{new(Submission), `{"KIND":"k","kind":"k","kind":"k","":1}`, map[string]string{"KIND": "is not known", "kind": "is given twice", "": "is not known"}},
		{new(Submission), `{"labels":{"a":null},"retry":{"factor":"2"}}`, map[string]string{"labels.a": "must be a string", "retry.factor": "must be a number"}},
		{new(Batch), `{"tasks":{}}`, map[string]string{"tasks": "must be a list"}},
		{new(Batch), `{"tasks":[{},{"who":1}]}`, map[string]string{"tasks[1].who": "is not known"}},
		{new(QueueChange), `{"paused":1}`, map[string]string{"paused": "must be true or false"}},
		{new(Cancel), `{"` + long + `":1}`, map[string]string{strings.Repeat("é", 50) + "…": "is not known"}},
		{new(Batch), `{"tasks":[` + strings.Repeat("{},", maxElements) + `{}]}`, map[string]string{"tasks": "has more than 10000 elements"}},
	} {
		var p *Problem
		if err := Decode([]byte(tt.text), tt.into); !errors.As(err, &p) {
			t.Errorf("%.100s: %v", tt.text, err)
			continue
		}
		got := make(map[string]string)
		for _, e := range p.Errors {
			got[e.Path] = e.Message
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || p.Code != "invalid_request" || p.Status != 422 {
			t.Errorf("%.100s: %+v %s", tt.text, p, diff)
		}
	}
	var labels strings.Builder
	for i := range maxMembers + 1 {
		labels.WriteString(`"k` + strings.Repeat("x", i) + `":"",`)
	}
	err := Decode([]byte(`{"labels":{`+strings.TrimSuffix(labels.String(), ",")+`}}`), new(Submission))
	if err == nil || !strings.Contains(err.Error(), "more than 1000 members") {
		t.Errorf("%v", err)
	}
	var p *Problem
	if err := Decode([]byte(`{"tasks":[`+strings.Repeat("0,", 200)+`0]}`), new(Batch)); !errors.As(err, &p) || len(p.Errors) != maxFieldErrors {
		t.Errorf("%v", err)
	}
}

func TestDecodeSaysWhereJSONEnds(t *testing.T) {
	for text, want := range map[string]string{
		"": "no JSON", " \n": "no JSON", `{"a":}`: "at byte 6", "{\"a\":\"\xff\"}": "UTF-8", "{} {}": "at byte 4", "\ufeff{}": "byte 1",
		strings.Repeat("[", 100_000): "not valid JSON", "1 2": "byte 3",
	} {
		var p *Problem
		if err := Decode([]byte(text), new(Cancel)); !errors.As(err, &p) || p.Code != "malformed_json" || p.Status != 400 || !strings.Contains(p.Detail, want) {
			t.Errorf("%.50q: %v", text, err)
		}
	}
}

// FuzzDecode compares with encoding/json: what is taken means the same there.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"kind":"k","payload":{"a":[1,"\u00e9\\",{}]},"labels":{"a":"b"}}`, `{"tasks":[{"kind":"k"}, {"resources":{"cpu":"5m"}} ]}`,
		`{"retry":{"initial":"1s","factor":1e2}}`, `"`, `{"a":[[],[{}]]}`, "{\"a\"\n:\t1 , \"b\":\"]}\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, shape := range []any{Submission{}, Batch{}} {
			got := reflect.New(reflect.TypeOf(shape))
			if err := Decode(data, got.Interface()); err != nil {
				var p *Problem
				if !errors.As(err, &p) || p.Status >= 500 {
					t.Fatalf("%v", err)
				}
				continue
			}
			want := reflect.New(reflect.TypeOf(shape))
			if err := json.Unmarshal(data, want.Interface()); err != nil {
				t.Fatalf("took %q, which encoding/json does not: %v", data, err)
			}
			if diff := cmp.Diff(want.Interface(), got.Interface(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%q: %s", data, diff)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := []byte(`{"kind":"demo.echo","payload":{"customer":17,"text":"` + strings.Repeat("words ", 30) + `"},"labels":{"run":"1"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(data, new(Submission)); err != nil {
			b.Fatal(err)
		}
	}
}
