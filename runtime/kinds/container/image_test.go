package container

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestWhichImagesAreAllowed(t *testing.T) {
	tests := []struct {
		pattern  string
		yes, not []string
	}{
		{
			"alpine",
			[]string{"alpine", "alpine:3", "docker.io/alpine", "docker.io/library/alpine:edge", "index.docker.io/library/alpine", "alpine@" + digest},
			[]string{"alpine2", "acme/alpine", "ghcr.io/alpine", "xalpine", "localhost/alpine", "alpine/alpine", "docker.io.evil.test/library/alpine"},
		},
		{
			"alpine:3.*",
			[]string{"alpine:3.20", "alpine:3."},
			[]string{"alpine", "alpine:3", "alpine:edge", "alpine@" + digest, "alpine:3.20@" + digest},
		},
		{"acme/*", []string{"acme/a", "acme/b:1", "docker.io/acme/c"}, []string{"acme", "acme/a/b", "acmex/a", "ghcr.io/acme/a"}},
		{
			"ghcr.io/acme/**",
			[]string{"ghcr.io/acme/a", "ghcr.io/acme/a/b:1"},
			[]string{"ghcr.io/acme", "ghcr.io/acmex/a", "ghcr.io.evil.test/acme/a", "evil.test/ghcr.io/acme/a", "ghcr.io:5000/acme/a"},
		},
		{"registry.internal:5000/*", []string{"registry.internal:5000/a:1"}, []string{"registry.internal/a", "registry-internal:5000/a", "registry.internal:50001/a"}},
		{"localhost/*:1", []string{"localhost/a:1"}, []string{"localhost/a", "localhost/a:11", "docker.io/localhost/a:1"}},
		{"alpine@" + digest, []string{"alpine@" + digest, "alpine:any@" + digest}, []string{"alpine", "alpine@" + strings.Replace(digest, "0", "1", 1)}},
		{"**", []string{"a", "a/b", "ghcr.io/a/b/c:1", "a@" + digest}, nil},
		{"*", []string{"a", "b:1"}, []string{"a/b", "ghcr.io/a"}},
	}
	for _, tt := range tests {
		allowed, err := ParseImages([]string{tt.pattern})
		if err != nil {
			t.Fatal(err)
		}
		for want, list := range map[bool][]string{true: tt.yes, false: tt.not} {
			for _, s := range list {
				i, err := parseImage(s)
				if err != nil {
					t.Errorf("%s: %v", s, err)
				}
				if allowed.allow(i) != want {
					t.Errorf("%s allows %s (%s): %v, want %v", tt.pattern, s, i, !want, want)
				}
			}
		}
	}
	for _, odd := range []string{"", "/", "a b", "a:", "a:b:c", "a@sha256", "a@" + digest + "@" + digest, "index.docker.io/a", "http://a", "a|b", "(a)", ":1", "@" + digest, "a:b/c"} {
		if got, err := ParseImages([]string{"alpine", odd}); err == nil || !got.none() {
			t.Errorf("%q was taken: %+v", odd, got)
		}
	}
}

func TestAShortNameIsNoImageID(t *testing.T) {
	for in, want := range map[string]string{
		"deadbeef": "docker.io/library/deadbeef:latest", "sha256:" + strings.Repeat("a", 64): "docker.io/library/sha256:" + strings.Repeat("a", 64),
		"alpine:3@" + digest: "docker.io/library/alpine@" + digest,
	} {
		got, err := parseImage(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for _, odd := range []string{strings.Repeat("a", 64), "", "UPPER", "a b", "a:", "../a", "http://a/b", "a\nb", "a@sha256:1"} {
		if got, err := parseImage(odd); err == nil {
			t.Errorf("%q was taken: %s", odd, got)
		}
	}
}

func TestAWrongPayloadIsNotTriedAgain(t *testing.T) {
	tests := []struct{ payload, message string }{
		{`null`, "image: want one"},
		{`{"image":"Alpine"}`, "image: want one"},
		{`["alpine"]`, "want an object, got array"},
		{`{"image":5}`, "image: cannot be a number"},
		{`{"image":"alpine","privileged":true}`, `unknown field "privileged"`},
		{`{"image":"alpine","mounts":[]}`, `unknown field "mounts"`},
		{`{"image":"alpine","command":["a\u0000"]}`, "command: has a NUL"},
		{`{"image":"alpine","command":[""` + strings.Repeat(`,""`, 4096) + `]}`, "command: want at most 4096"},
		{`{"image":"alpine","workdir":"src"}`, "workdir: want an absolute path"},
		{`{"image":"alpine","user":"a b"}`, "user: want a name"},
		{`{"image":"alpine","user":"a:b:c"}`, "user: want a name"},
		{`{"image":"alpine","env":{"":"x"}}`, `env: "" cannot be a name`},
		{`{"image":"alpine","env":{"A=B":"x"}}`, `env: "A=B" cannot be a name`},
		{`{"image":"alpine","env":{"A":"\u0000"}}`, "env.A: has a NUL"},
		{`{"image":"alpine","memory":"1Mi"}`, "memory: want from 6291456 to 2147483648 bytes"},
		{`{"image":"alpine","memory":"3Gi"}`, "memory: want from"},
		{`{"image":"alpine","memory":"much"}`, "quantity"},
		{`{"image":"alpine","cpu":3}`, "cpu: want from 10m to 2"},
		{`{"image":"alpine","cpu":0.001}`, "cpu: want from 10m to 2"},
		{`{"image":"alpine","network":"host"}`, "network: want none or bridge"},
		{`{"image":"alpine","network":"container:other"}`, "network: want none or bridge"},
		{`{"image":"alpine","network":"bridge"}`, "network: containers have none on this node"},
		{`{"image":"alpine","timeout":"soon"}`, "timeout: want a duration"},
		{`{"image":"alpine","timeout":"-1s"}`, "timeout: want a duration"},
	}
	e := newEngine(t)
	k := kindOf(t, e)
	for _, tt := range tests {
		_, _, err := run(t, k, tt.payload)
		wantFailure(t, err, "invalid_payload", false, tt.message)
	}
	_, _, err := run(t, k, `{"image":"evil.test/alpine"}`)
	wantFailure(t, err, "image_not_allowed", false, "tasks may not run the image evil.test/alpine:latest")
	if asked := e.requests(); len(asked) != 0 {
		t.Errorf("the engine was asked %q", asked)
	}
}

func TestDefaultsOfAShare(t *testing.T) {
	images, err := ParseImages([]string{"**"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limits []string
		memory int64
		cpu    string
	}{{nil, 512 << 20, "1"}, {[]string{"memory=100Mi", "cpu=500m"}, 100 << 20, "500m"}} {
		limits, err := ParseLimits(tt.limits)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Config{Images: images, Limits: limits}.withDefaults().parse(json.RawMessage(`{"image":"a"}`))
		if err != nil || s.memory != tt.memory || s.cpu.String() != tt.cpu || s.network != "none" {
			t.Errorf("%q: %+v, %v", tt.limits, s, err)
		}
	}
	got, err := ParseLimits([]string{"memory=4Gi", "cpu=1.5", "processes=64", "tmp=1Mi"})
	if want := (Limits{Memory: 4 << 30, CPU: 1500, Processes: 64, Temp: 1 << 20}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, odd := range []string{"memory", "memory=1", "cpu=0", "cpu=much", "processes=0", "processes=many", "tmp=0", "tmp=x", "swap=1Gi", ""} {
		if got, err := ParseLimits([]string{odd}); err == nil {
			t.Errorf("%q was taken: %+v", odd, got)
		}
	}
	for s, ok := range map[string]bool{"never": true, "missing": true, "always": true, "": false, "Always": false} {
		if _, err := ParsePull(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestWhereAnEngineMayBe(t *testing.T) {
	for _, good := range []string{"unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://engine.internal:2375"} {
		c, err := connect(good)
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		_ = c.Close()
	}
	for _, bad := range []string{"", "docker.sock", "http://x", "ssh://x", "npipe://x", "tcp://x", "unix://", "tcp://"} {
		if _, err := connect(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := newKind(book{}, Config{Engine: "unix:///x"}); err == nil {
		t.Error("without any image it was taken")
	}
}

func TestImagesArePulled(t *testing.T) {
	const image, full = `{"image":"ghcr.io/acme/report:1"}`, "ghcr.io/acme/report:1"
	messages := []string{
		`{"status":"Pulling from acme/report","id":"1"}`,
		`{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}`,
		`{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}`,
		`{"status":"Downloading","progressDetail":{"current":0,"total":100},"id":"b"}`,
		`{"status":"Download complete","id":"a"}`,
		`{"status":"Extracting","progressDetail":{"current":1,"total":100},"id":"a"}`,
		`{"status":"Pull complete","id":"c"}`,
		`{"status":"Pull complete","id":"b"}`,
	}
	tests := []struct {
		name      string
		pull      Pull
		there     bool
		messages  []string
		code      string
		retryable bool
		progress  []string
	}{
		{"missing", PullMissing, false, messages, "", false, []string{"-1", "0.1", "0.5", "1", "-1"}},
		{"there", PullMissing, true, nil, "", false, []string{"-1"}},
		{"always", PullAlways, true, messages[:1], "", false, []string{"-1", "-1"}},
		{"never", PullNever, false, messages, "image_not_found", false, nil},
		{"never, and there", PullNever, true, nil, "", false, []string{"-1"}},
		{"nowhere", PullMissing, false, nil, "image_not_found", false, []string{"-1"}},
		{"half of it", PullMissing, false, append(messages[:2:2], `{"errorDetail":{"message":"connection reset"},"error":"connection reset"}`), "image_pull_failed", true, []string{"-1", "0.1"}},
		{"nonsense", PullMissing, false, []string{`{"error`}, "image_pull_failed", true, []string{"-1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			e.images[full] = tt.there
			if tt.messages != nil {
				e.pullable[full] = tt.messages
			}
			r, _, err := run(t, kindOf(t, e, func(c *Config) { c.Pull = tt.pull }), image)
			if tt.code == "" && err != nil {
				t.Error(err)
			} else if tt.code != "" {
				wantFailure(t, err, tt.code, tt.retryable, full)
			}
			var fractions []string
			for _, p := range r.progress {
				fraction, message, _ := strings.Cut(p, " ")
				if !strings.HasSuffix(message, full) {
					t.Errorf("it says %q", message)
				}
				fractions = append(fractions, fraction)
			}
			if diff := cmp.Diff(tt.progress, fractions); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPullThatBreaksOff(t *testing.T) {
	e := newEngine(t)
	e.fault = func(w http.ResponseWriter, _ *http.Request, path string) bool {
		if path == "/images/create" {
			_, _ = io.WriteString(w, `{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}`+"\n")
		}
		return path == "/images/create" // and ends as if all were well
	}
	_, _, err := run(t, kindOf(t, e), `{"image":"ghcr.io/acme/report:1"}`)
	wantFailure(t, err, "image_pull_failed", true, "is not there after it was pulled")
}
