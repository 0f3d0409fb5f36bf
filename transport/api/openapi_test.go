package api

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// document is as much of OpenAPI as the tests look at.
type document struct {
	OpenAPI    string                               `json:"openapi"`
	Info       struct{ Title, Version string }      `json:"info"`
	Paths      map[string]map[string]map[string]any `json:"paths"`
	Components struct{ Schemas map[string]map[string]any }
}

func (f *front) document(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(f.do(t, "GET", "/openapi.json", "").want(t, 200).body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryRouteIsDescribedAndEveryDescriptionARoute(t *testing.T) {
	f := newHouse(t, Config{WS: http.NotFoundHandler(), Workers: http.NotFoundHandler(), Metrics: prometheus.NewRegistry()})
	var routes, described []string
	err := chi.Walk(f.mux, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		page := route == "/docs" || strings.HasPrefix(route, "/docs/") || strings.HasPrefix(route, "/openapi.") || strings.HasPrefix(route, "/asyncapi.")
		if !page {
			routes = append(routes, method+" "+route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d := f.document(t)
	for path, operations := range d.Paths {
		for method, operation := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
			if operation["summary"] == "" || operation["responses"] == nil {
				t.Errorf("%s %s says too little", method, path)
			}
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if !slices.Equal(routes, described) {
		t.Errorf("routes    %q\ndescribed %q", routes, described)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || d.Info.Version != "dev" {
		t.Errorf("%s, version %s", d.OpenAPI, d.Info.Version)
	}
}

func TestDescriptionSaysWhatTheContractSays(t *testing.T) {
	d := newFront(Config{}).document(t)
	submission, _ := d.Components.Schemas["Submission"]["properties"].(map[string]any)
	resources, _ := submission["resources"].(map[string]any)
	quantity, _ := json.Marshal(resources["additionalProperties"])
	if !strings.Contains(string(quantity), `"oneOf":[{"type":"number"}`) {
		t.Errorf("a quantity: %s", quantity)
	}
	if at, _ := json.Marshal(submission["run_at"]); !strings.Contains(string(at), `"date-time"`) {
		t.Errorf("a time: %s", at)
	}
	body, _ := json.Marshal(d.Paths["/v1/batches"]["post"]["requestBody"])
	for _, media := range []string{mediaJSON, mediaNDJSON} {
		if !strings.Contains(string(body), `"`+media+`"`) {
			t.Errorf("a batch as %s is not described: %s", media, body)
		}
	}
	for name, schema := range d.Components.Schemas {
		if name != "Problem" && strings.Contains(strings.ToLower(name), "refusal") || schema["type"] == nil {
			t.Errorf("schema %s: %v", name, schema)
		}
	}
}

func TestYAMLIsTheSameDocument(t *testing.T) {
	r := newFront(Config{Version: "1.2.3"}).do(t, "GET", "/openapi.yaml", "").want(t, 200)
	if got := string(r.body); !strings.Contains(got, "openapi: 3.1.0") && !strings.Contains(got, `openapi: "3.1.0"`) || !strings.Contains(got, "1.2.3") {
		t.Errorf("%.300s", got)
	}
}

func TestSocketsHaveADocumentWhereTheyAre(t *testing.T) {
	f := newFront(Config{AsyncAPI: []byte(`{"asyncapi":"3.0.0","channels":{}}`)})
	if r := f.do(t, "GET", "/asyncapi.json", "").want(t, 200); string(r.body) != `{"asyncapi":"3.0.0","channels":{}}` {
		t.Errorf("%s", r.body)
	}
	r := f.do(t, "GET", "/asyncapi.yaml", "").want(t, 200)
	if r.Header.Get("Content-Type") != "application/yaml" || !strings.Contains(string(r.body), "asyncapi: 3.0.0") {
		t.Errorf("%s: %s", r.Header.Get("Content-Type"), r.body)
	}
	newFront(Config{}).do(t, "GET", "/asyncapi.json", "").want(t, 404)
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	f := newFront(Config{})
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]+|\son[a-z]+=|style=|javascript:|<script>|<style|innerHTML|eval\(`)
	linked := regexp.MustCompile(`(?:src|href)="(/[^"#]*)"`)
	for path, media := range map[string]string{
		"/docs": "text/html", "/docs/problems": "text/html", "/docs/docs.js": "text/javascript", "/docs/docs.css": "text/css",
	} {
		r := f.do(t, "GET", path, "").want(t, 200)
		if !strings.HasPrefix(r.Header.Get("Content-Type"), media) {
			t.Errorf("%s is %s", path, r.Header.Get("Content-Type"))
		}
		if found := elsewhere.FindString(string(r.body)); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		for _, link := range linked.FindAllStringSubmatch(string(r.body), -1) {
			f.do(t, "GET", link[1], "").want(t, 200)
		}
		f.do(t, "HEAD", path, "").want(t, 200)
	}
}

// Problems are made in other packages too, which know nothing of the table here.
func TestCodesOfOtherPackagesAreInTheTable(t *testing.T) {
	found := 0
	for _, folder := range []string{"..", "../auth", "../ws"} {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, m := range regexp.MustCompile(`(?:NewProblem\(|task\.Err\w+, )(?:status|http\.Status\w+), "(\w+)"`).FindAllSubmatch(text, -1) {
				found++
				known := func(c code) bool { return c.Name == string(m[1]) }
				if !slices.ContainsFunc(codes, known) && !slices.ContainsFunc(socketCodes, known) {
					t.Errorf("%s has the code %s, which is on no page", name, m[1])
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("found %d codes only", found)
	}
}

func TestEveryCodeIsOnThePageOfProblems(t *testing.T) {
	page := string(newFront(Config{}).do(t, "GET", "/docs/problems", "").want(t, 200).body)
	for _, c := range slices.Concat(codes, socketCodes) {
		if !strings.Contains(page, `<tr id="`+c.Name+`">`) {
			t.Errorf("no %s", c.Name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a problem without a page was made")
		}
	}()
	_ = newProblem("made_up", "")
}
