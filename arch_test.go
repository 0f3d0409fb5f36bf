package troupe_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/troupe-run/troupe"

// A layer says which of our packages the packages it names may import. Names
// are folders of this module, the root is "."; "x/..." is x and all below it.
// The first layer that names a package decides; a package that none names may
// not exist, so that a new folder has to say whom it knows.
type layer struct {
	of  string
	may []string
}

var layers = []layer{
	{of: ".", may: nil},
	{of: "runtime/task", may: nil},
	{of: "runtime/schedule", may: nil},
	{of: "runtime/cron", may: nil},
	{of: "runtime/redact", may: nil},
	{of: "runtime/access", may: []string{"runtime/task"}},
	{of: "runtime/kinds/lines", may: nil},
	{of: "runtime/kinds/...", may: []string{"runtime", "runtime/kinds/lines", "runtime/task"}},
	{of: "runtime", may: []string{"actors", "runtime/access", "runtime/cron", "runtime/task", "runtime/schedule", "persistence"}},
	{of: "actors/wire", may: []string{"runtime/task"}},
	{of: "actors", may: []string{"actors/wire", "runtime/access", "runtime/cron", "runtime/task", "runtime/schedule"}},
	{of: "persistence", may: []string{"persistence/...", "runtime/access", "runtime/task"}},
	{of: "persistence/codec", may: []string{"runtime/task"}},
	{of: "persistence/...", may: []string{"persistence/codec", "runtime/access", "runtime/task"}},
	{of: "transport", may: []string{"runtime/access", "runtime/task"}},
	{of: "transport/spec", may: []string{"transport", "runtime/access", "runtime/task"}},
	{of: "transport/auth", may: []string{"transport", "runtime/access", "runtime/task"}},
	{of: "transport/dashboard", may: nil},
	{of: "transport/api", may: []string{"transport", "transport/auth", "transport/spec", "runtime/access", "runtime/task"}},
	{of: "transport/ws", may: []string{"transport", "transport/auth", "transport/spec", "runtime/access", "runtime/task"}},
	{of: "transport/sdk", may: nil},
	{of: "transport/client", may: []string{"transport", "runtime/task"}},
	{of: "cmd/...", may: []string{"./..."}},
	// The harness starts a PostgreSQL under the nodes; pgtest does that and knows nothing of ours.
	// The simulator plays the scheduler itself.
	{of: "bench/simulate", may: []string{"runtime/schedule"}},
	{of: "bench/...", may: []string{"bench/...", "transport", "transport/client", "runtime", "runtime/task", "persistence/postgres/pgtest"}},
}

// A fence names libraries, each with all below it, and the only folders that
// may import them.
type fence struct {
	libraries []string
	inside    []string
	because   string
}

var fences = []fence{
	{
		libraries: []string{"github.com/asynkron/protoactor-go"},
		inside:    []string{"actors/...", "runtime"},
		because:   "only actors and runtime know the actor library",
	},
	{
		libraries: []string{
			"github.com/asynkron/protoactor-go/persistence",
			"github.com/asynkron/protoactor-go/plugin",
			"github.com/asynkron/protoactor-go/router",
			"github.com/asynkron/protoactor-go/scheduler",
		},
		because: "these parts of the actor library race, leak or exit: docs/decisions/0002",
	},
	{
		libraries: []string{
			"database/sql", "modernc.org/sqlite", "github.com/jackc", "github.com/redis/go-redis", "github.com/go-redis",
			"github.com/pressly/goose",
		},
		inside:  []string{"persistence/...", "runtime/kinds/sql", "bench/bare"},
		because: "only what keeps, reads or measures one knows a database",
	},
	{
		libraries: []string{"github.com/openai/openai-go", "github.com/anthropics/anthropic-sdk-go"},
		inside:    []string{"runtime/kinds/llm"},
		because:   "only the kind that asks models knows their libraries",
	},
	{
		libraries: []string{"github.com/maypok86/otter"},
		inside:    []string{"persistence/recent"},
		because:   "only persistence/recent keeps a cache",
	},
	{
		libraries: []string{"net/http"},
		inside:    []string{"transport/...", "cmd/...", "bench/...", "runtime/kinds/..."},
		because:   "only the front door, and kinds that call out, speak HTTP",
	},
	{
		libraries: []string{"github.com/go-chi/chi", "github.com/danielgtaylor/huma", "github.com/gorilla"},
		inside:    []string{"transport/...", "cmd/...", "bench/..."},
		because:   "only the front door knows an HTTP library",
	},
	{
		libraries: []string{"github.com/lestrrat-go"},
		inside:    []string{"transport/auth"},
		because:   "only the door reads tokens",
	},
	{
		libraries: []string{"github.com/moby", "github.com/docker", "github.com/containerd", "github.com/distribution", "github.com/opencontainers"},
		inside:    []string{"runtime/kinds/container"},
		because:   "only the kind container knows an engine of containers",
	},
	{
		libraries: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/knadh/koanf"},
		inside:    []string{"cmd/..."},
		because:   "only cmd reads flags, files and the environment",
	},
}

// The core is a value in, a value out: it has no file, socket, process or log.
var (
	core       = []string{"runtime/task", "runtime/schedule"}
	notForCore = []string{"os", "net", "net/http", "log", "syscall", "testing"}
)

var meaningless = []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "models", "base"}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func TestPackagesKeepToTheirPlace(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, v := range violations(p) {
			t.Error(v)
		}
	}
}

func TestCoreHasNoGoroutineAndNoClock(t *testing.T) {
	for _, p := range listPackages(t) {
		if !slices.Contains(core, folder(p.ImportPath)) {
			continue
		}
		for _, name := range p.GoFiles {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range impurities(files, file) {
				t.Error(v)
			}
		}
	}
}

// violations returns a sentence for everything about p that the rules above forbid.
func violations(p listed) []string {
	var found []string
	of := folder(p.ImportPath)
	if p.Doc == "" {
		found = append(found, of+" has no package comment")
	}
	for _, name := range []string{p.Name, path.Base(of)} {
		if slices.Contains(meaningless, name) {
			found = append(found, fmt.Sprintf("%s is named %q, which says nothing of what it provides", of, name))
			break
		}
	}
	i := slices.IndexFunc(layers, func(l layer) bool { return within(of, l.of) })
	if i < 0 {
		return append(found, of+" has no layer: say in arch_test.go whom it may import")
	}
	for _, imported := range p.Imports {
		found = append(found, importViolations(of, layers[i], imported)...)
	}
	return found
}

func importViolations(of string, l layer, imported string) []string {
	if ours := imported == module || strings.HasPrefix(imported, module+"/"); ours {
		if to := folder(imported); !within(to, l.may...) {
			return []string{fmt.Sprintf("%s imports %s, but may import of ours only %v", of, to, l.may)}
		}
		return nil
	}
	var found []string
	if slices.Contains(core, of) {
		first, _, _ := strings.Cut(imported, "/")
		if strings.Contains(first, ".") || slices.Contains(notForCore, imported) || strings.HasPrefix(imported, "os/") {
			found = append(found, fmt.Sprintf("%s imports %s: the core computes, with the standard library alone", of, imported))
		}
	}
	for _, f := range fences {
		if within(imported, deep(f.libraries)...) && !within(of, f.inside...) {
			found = append(found, fmt.Sprintf("%s imports %s: %s", of, imported, f.because))
		}
	}
	return found
}

// impurities returns a sentence for every goroutine, channel use and look at the clock in a file.
func impurities(files *token.FileSet, file *ast.File) []string {
	var found []string
	report := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s: the core has no %s", files.Position(n.Pos()), what))
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n, "goroutine")
		case *ast.ChanType, *ast.SelectStmt:
			report(n, "channel")
		case *ast.SelectorExpr:
			pkg, isName := n.X.(*ast.Ident)
			clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
			if isName && pkg.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				report(n, "clock: time is an argument")
			}
		}
		return true
	})
	return found
}

func TestViolationsAreFound(t *testing.T) {
	const proto = "github.com/asynkron/protoactor-go"
	tests := []struct {
		name    string
		pkg     string
		imports []string
		want    string // part of the one violation, or "" for none
	}{
		{"task stands on the standard library", "runtime/task", []string{"errors", "net/url", "encoding/json"}, ""},
		{"task knows nobody of ours", "runtime/task", []string{module + "/runtime/schedule"}, "imports runtime/schedule"},
		{"task knows no library", "runtime/task", []string{"github.com/google/uuid"}, "standard library alone"},
		{"task does no I/O", "runtime/task", []string{"os"}, "standard library alone"},
		{"schedule runs nothing", "runtime/schedule", []string{"os/exec"}, "standard library alone"},
		{"actors know the core", "actors", []string{module + "/runtime/task", module + "/actors/wire", proto + "/actor"}, ""},
		{"actors do not look up", "actors", []string{module + "/runtime"}, "imports runtime,"},
		{"actors speak no HTTP", "actors", []string{"net/http/httptrace"}, "speak HTTP"},
		{"actors leave the router alone", "actors", []string{proto + "/router"}, "race, leak or exit"},
		{"runtime opens the default store", "runtime", []string{module + "/persistence"}, ""},
		{"runtime knows no backend", "runtime", []string{module + "/persistence/sqlite"}, "imports persistence/sqlite"},
		{"runtime knows no kind", "runtime", []string{module + "/runtime/kinds/http"}, "imports runtime/kinds/http"},
		{"a kind calls out", "runtime/kinds/http", []string{"net/http", module + "/runtime"}, ""},
		{"a kind reads databases", "runtime/kinds/sql", []string{"github.com/jackc/pgx/v5", "modernc.org/sqlite/lib"}, ""},
		{"nor a model's library", "runtime", []string{"github.com/openai/openai-go/v3/option"}, "asks models"},
		{"no other does", "runtime/kinds/http", []string{"github.com/jackc/pgx/v5"}, "knows a database"},
		{"a kind knows no actor", "runtime/kinds/exec", []string{proto + "/actor"}, "know the actor library"},
		{"a container runs on an engine", "runtime/kinds/container", []string{"github.com/moby/moby/client", module + "/runtime/kinds/lines"}, ""},
		{"which nobody else knows", "runtime/kinds/exec", []string{"github.com/moby/moby/api/types/container"}, "knows an engine"},
		{"a backend knows its driver", "persistence/sqlite", []string{"modernc.org/sqlite/lib", module + "/runtime/task"}, ""},
		{"backends never know each other", "persistence/sqlite", []string{module + "/persistence/memory"}, "imports persistence/memory"},
		{"persistence opens its backends", "persistence", []string{module + "/persistence/sqlite"}, ""},
		{"the API speaks the shapes of transport", "transport/api", []string{module + "/transport", "github.com/go-chi/chi/v5"}, ""},
		{"the shapes do not know who speaks them", "transport", []string{module + "/transport/api"}, "imports transport/api"},
		{"transport knows no actor", "transport/ws", []string{module + "/actors"}, "imports actors"},
		{"transport knows no runtime", "transport/api", []string{module + "/runtime"}, "imports runtime,"},
		{"the wire does not know the API", "transport/ws", []string{module + "/transport/api"}, "imports transport/api"},
		{"transport knows no database", "transport/api", []string{"github.com/jackc/pgx/v5"}, "knows a database"},
		{"only the door reads tokens", "transport/api", []string{"github.com/lestrrat-go/jwx/v3/jwt"}, "reads tokens"},
		{"only cmd reads flags", "runtime", []string{"github.com/knadh/koanf/v2"}, "reads flags"},
		{"cmd knows all", "cmd/troupe", []string{module + "/transport", module + "/runtime/kinds/exec", "github.com/spf13/cobra"}, ""},
		{"but not a driver", "cmd/troupe", []string{"database/sql"}, "knows a database"},
		{"the harness is a client", "bench", []string{module + "/transport/client"}, ""},
		{"the harness knows no store", "bench", []string{module + "/persistence/postgres"}, "imports persistence/postgres,"},
		{"the harness looks inside nothing", "bench", []string{module + "/actors"}, "imports actors"},
		{"a new folder states its layer", "plugins", nil, "has no layer"},
		{"a name says what is provided", "cmd/troupe/util", nil, "says nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := listed{ImportPath: module + "/" + tt.pkg, Name: path.Base(tt.pkg), Doc: "Package x.", Imports: tt.imports}
			got := violations(p)
			if tt.want == "" && len(got) > 0 {
				t.Fatalf("allowed, but found: %q", got)
			}
			if tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Fatalf("got %q, want one violation with %q", got, tt.want)
			}
		})
	}

	if got := violations(listed{ImportPath: module, Name: "troupe"}); len(got) != 1 || !strings.Contains(got[0], "no package comment") {
		t.Errorf("a package without a comment: got %q", got)
	}
}

func TestImpuritiesAreFound(t *testing.T) {
	const source = `package task
func f() { go f(); _ = time.Now(); var c chan int; select {}; _ = time.Duration(1); _ = c }`
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "f.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := impurities(files, file); len(got) != 4 {
		t.Errorf("got %d, want a goroutine, a clock and two channel uses: %q", len(got), got)
	}
}

// folder is a package's place in this module: "runtime/task", or "." for the root.
func folder(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func within(name string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		top, isTree := strings.CutSuffix(pattern, "/...")
		return name == top || isTree && (top == "." || strings.HasPrefix(name, top+"/"))
	})
}

func deep(names []string) []string {
	trees := make([]string, 0, len(names))
	for _, name := range names {
		trees = append(trees, name+"/...")
	}
	return trees
}

// listPackages is every package of the module, with what it imports outside of its tests.
func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags=integration,cluster",
		"-json=ImportPath,Name,Doc,Dir,GoFiles,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if len(p.GoFiles) > 0 {
			packages = append(packages, p)
		}
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	return packages
}
