package exec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Programs are the only ones that tasks may run; the zero value is all of them.
type Programs struct {
	list []program
}

type program struct {
	name string // as the operator named it: absolute, without . and ..
	file string // what that was when the node started, without symbolic links
}

// ParsePrograms reads a list of absolute paths. Each must lead to a program now;
// what its name leads to later is not looked at again.
func ParsePrograms(list []string) (p Programs, err error) {
	for _, name := range list {
		if !filepath.IsAbs(name) || filepath.Clean(name) != name {
			return Programs{}, fmt.Errorf("%q: want an absolute path, with no . or .. in it", name)
		}
		file, err := filepath.EvalSymlinks(name)
		if err != nil {
			return Programs{}, fmt.Errorf("%q: %w", name, err)
		}
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return Programs{}, fmt.Errorf("%q: is no program", name)
		}
		p.list = append(p.list, program{name: name, file: file})
	}
	return p, nil
}

func (p Programs) any() bool { return len(p.list) == 0 }

// look is the file behind the first word of a command, which is a name on the
// list or the last part of one. Nothing of the file system is asked, so there is
// no link, no PATH and no moment between looking and running to play with. Nor
// will the resolved file do, for many a program goes by the name it is called.
func (p Programs) look(word string) (file string, err error) {
	i := slices.IndexFunc(p.list, func(l program) bool { return word == l.name || word == filepath.Base(l.name) })
	if i < 0 {
		return "", notAllowed("tasks may not run %s on this node", word)
	}
	return p.list[i].file, nil
}

// loading is what the loader of programs and the common interpreters take other
// code from; a * stands for any rest.
var loading = []string{
	"LD_*", "DYLD_*", "GCONV_PATH", "LOCPATH", "MALLOC_*", "PATH", "IFS", "ENV", "BASH_*", "BASHOPTS", "SHELLOPTS", "PS4", "ZDOTDIR",
	"PYTHON*", "PERL*", "RUBY*", "GEM_*", "BUNDLE_*", "NODE_*", "NPM_CONFIG_*", "LUA_*", "PHP*", "CLASSPATH", "JAVA_TOOL_OPTIONS",
	"JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "GIT_*", "SSH_ASKPASS", "PAGER", "MANPAGER", "EDITOR", "VISUAL", "BROWSER", "LESSOPEN",
	"LESSCLOSE", "OPENSSL_*", "TERMINFO", "HOME", "XDG_*",
}

// checkEnv refuses variables with which a task would run other programs through
// one on the list.
func (p Programs) checkEnv(env map[string]string) error {
	if p.any() {
		return nil
	}
	for name := range env {
		if slices.ContainsFunc(loading, func(pattern string) bool {
			prefix, open := strings.CutSuffix(pattern, "*")
			return name == pattern || open && strings.HasPrefix(name, prefix)
		}) {
			return notAllowed("env.%s: this node runs only some programs, and that could make them run others", name)
		}
	}
	return nil
}

func notAllowed(format string, args ...any) error {
	return failure("exec_not_allowed", false, details{ExitStatus: statusNotStarted}, format, args...)
}
