package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed pages
var pages embed.FS

// pageRoutes serve the API's description. The pages load nothing from anywhere
// else and have their script in a file, so that they work without a network and
// under the policy that guard sets.
func (s *Server) pageRoutes() {
	document, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		panic(err) // of types this package describes
	}
	yaml, err := s.huma.OpenAPI().YAML()
	if err != nil {
		panic(err)
	}
	s.file("/openapi.json", mediaJSON, document)
	s.file("/openapi.yaml", "application/yaml", yaml)
	for path, name := range map[string]string{"/docs": "docs.html", "/docs/docs.js": "docs.js", "/docs/docs.css": "docs.css"} {
		content, err := pages.ReadFile("pages/" + name)
		if err != nil {
			panic(err)
		}
		s.file(path, mediaOf(name), content)
	}
	var problems bytes.Buffer
	if err := template.Must(template.ParseFS(pages, "pages/problems.html")).Execute(&problems, codes); err != nil {
		panic(err)
	}
	s.file("/docs/problems", mediaOf("problems.html"), problems.Bytes())
}

// file serves bytes that do not change while the program runs.
func (s *Server) file(path, contentType string, content []byte) {
	handle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
	s.mux.Get(path, handle)
	s.mux.Head(path, handle)
}

func mediaOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".js"):
		return "text/javascript; charset=utf-8"
	case strings.HasSuffix(name, ".css"):
		return "text/css; charset=utf-8"
	default:
		return "text/html; charset=utf-8"
	}
}
