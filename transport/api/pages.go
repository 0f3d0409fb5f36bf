package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2/yaml"
)

//go:embed pages
var pages embed.FS

// pageRoutes serve the API's description. The pages load nothing from anywhere
// else and have their script in a file, so that they work without a network and
// under the policy that guard sets.
func (s *Server) pageRoutes(asyncAPI []byte) {
	document := s.huma.OpenAPI()
	s.file("/openapi.json", mediaJSON, sync.OnceValue(func() []byte { return must(json.Marshal(document)) }))
	s.file("/openapi.yaml", "application/yaml", sync.OnceValue(func() []byte { return must(document.YAML()) }))
	if asyncAPI != nil {
		s.file("/asyncapi.json", mediaJSON, func() []byte { return asyncAPI })
		s.file("/asyncapi.yaml", "application/yaml", sync.OnceValue(func() []byte {
			var text bytes.Buffer
			err := yaml.Convert(&text, bytes.NewReader(asyncAPI))
			return must(text.Bytes(), err)
		}))
	}
	for path, name := range map[string]string{"/docs": "docs.html", "/docs/docs.js": "docs.js", "/docs/docs.css": "docs.css"} {
		s.file(path, mediaOf(name), func() []byte { return must(pages.ReadFile("pages/" + name)) })
	}
	s.file("/docs/problems", mediaOf("problems.html"), sync.OnceValue(func() []byte {
		var page bytes.Buffer
		err := template.Must(template.ParseFS(pages, "pages/problems.html")).Execute(&page, slices.Concat(codes, socketCodes))
		return must(page.Bytes(), err)
	}))
}

// must is for what depends on nothing but this package's own text and types.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// file serves what does not change while the program runs.
func (s *Server) file(path, contentType string, content func() []byte) {
	handle := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(content()) // a client that is gone is no error
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
