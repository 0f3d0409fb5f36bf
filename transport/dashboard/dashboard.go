package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed ui
var ui embed.FS

// policy is what a browser may do on behalf of the page. No script and no style
// but those served here; and no string becomes markup or code, by trusted types,
// where a browser knows them.
const policy = "default-src 'self'; connect-src 'self'; style-src 'self'; script-src 'self'; " +
	"object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// file is one file of the page, and what is sent of it.
type file struct {
	content     []byte
	contentType string
	etag        string
}

// Handler serves the page at / and its parts below /ui/. Every other path is
// answered with 404, which the router may put into words of its own.
func Handler() http.Handler {
	return load()
}

// pages are the files by the path they are served at.
type pages map[string]file

func load() pages {
	found := pages{}
	err := fs.WalkDir(ui, "ui", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := ui.ReadFile(name)
		if err != nil {
			return err
		}
		at := "/" + name
		if name == "ui/index.html" {
			at = "/"
		}
		sum := sha256.Sum256(content)
		found[at] = file{content, mediaType(name), `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		panic(err) // of files that are part of the program
	}
	return found
}

// mediaType does not ask the machine, whose tables may differ.
func mediaType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return mime.TypeByExtension(ext)
	}
}

// ServeHTTP implements [http.Handler].
func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, known := p[r.URL.Path]
	if !known {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// The names are stable, so a browser asks each time, and the tag answers.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	h.Set("Content-Type", f.contentType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
