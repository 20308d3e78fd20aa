package cmd_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "puavo-image-repository"

// goMods are the go.mod files of this repository. The module of bench has a path
// below the top's, so the arrows and the compiler's rule of internal hold for it too.
var goMods = []string{"../go.mod", "../bench/go.mod", "../cksum/internal/kernel/_asm/go.mod", "../delta/internal/kernel/_asm/go.mod"}

// arrows tells which packages of the module those of a folder may import. "..."
// stands for the folder before it and all below. The first line that fits counts.
// What is internal is kept from others by the compiler.
var arrows = []struct {
	from string
	to   []string
}{
	{"cksum/...", []string{"cksum/..."}},
	{"delta", []string{"delta/mmap", "delta/internal/..."}},
	{"delta/mmap", nil},
	{"delta/compact", []string{"delta", "delta/mmap", "delta/compact/internal/decode", "delta/compact/internal/encode", "delta/compact/internal/wire"}},
	{"delta/compact/squashfs", []string{"delta/compact", "delta/compact/internal/squash"}},
	// The decoder shares nothing with the encoder but formats.
	{"delta/compact/internal/decode", []string{"cksum", "delta/mmap", "delta/compact/internal/lzo", "delta/compact/internal/piece", "delta/compact/internal/token", "delta/compact/internal/wire"}},
	{"delta/compact/internal/encode", []string{"cksum", "delta", "delta/mmap", "delta/compact/internal/lzo", "delta/compact/internal/ordered", "delta/compact/internal/piece", "delta/compact/internal/token", "delta/compact/internal/wire"}},
	{"delta/compact/internal/lzo", nil},
	{"delta/compact/internal/ordered", []string{"delta/mmap"}},
	{"delta/compact/internal/lzma", nil},
	{"delta/compact/internal/piece", []string{"delta/compact/internal/lzma"}},
	{"delta/compact/internal/wire", []string{"cksum", "delta/compact/internal/piece"}},
	{"delta/compact/internal/squash", []string{"delta/compact/internal/lzo"}},
	{"delta/compact/internal/squashtest", []string{"delta/compact/internal/squash", "testdata"}}, // for tests only
	{"delta/compact/internal/...", []string{"delta/compact/internal/..."}},
	{"delta/internal/...", []string{"delta/mmap", "delta/internal/..."}},
	{"meta/untrusted", nil}, // for all, commands too
	{"meta/...", []string{"cksum", "meta/..."}},
	{"imagerepo", []string{"cksum", "delta", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/plan", "imagerepo/internal/..."}},
	{"imagerepo/plan", []string{"meta", "meta/untrusted"}},
	{"imagerepo/compactdelta", []string{"cksum", "delta", "delta/mmap", "delta/compact", "delta/compact/squashfs", "meta", "imagerepo/atomicfile", "imagerepo/plan", "imagerepo/internal/..."}},
	{"imagerepo/atomicfile", []string{"meta/untrusted"}},
	{"imagerepo/through", nil},
	{"imagerepo/audit", []string{"cksum", "delta", "delta/mmap", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/internal/..."}},
	{"imagerepo/imagediff", []string{"meta/untrusted", "imagerepo/internal/puavoconf/squashfs"}},
	{"imagerepo/archive", []string{"cksum", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/imagediff", "imagerepo/plan", "imagerepo/archive/internal/...", "imagerepo/internal/..."}},
	{"imagerepo/archive/internal/chain", nil},
	{"imagerepo/archive/internal/retention", nil},
	{"imagerepo/archive/internal/catalog", []string{"cksum", "meta", "meta/untrusted", "imagerepo/atomicfile"}},
	{"imagerepo/archive/internal/maker", []string{"cksum", "delta", "delta/compact", "delta/compact/squashfs", "delta/mmap", "imagerepo/atomicfile", "imagerepo/archive/internal/catalog"}},
	{"imagerepo/archive/internal/group", []string{"cksum", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/archive/internal/catalog", "imagerepo/archive/internal/content"}},
	{"imagerepo/archive/internal/target", []string{"cksum", "imagerepo/atomicfile", "imagerepo/through", "imagerepo/archive/internal/content", "imagerepo/internal/diskspace", "imagerepo/internal/lockfile"}},
	{"imagerepo/archive/internal/extents", nil},
	{"imagerepo/archive/internal/pieces", []string{"cksum"}},
	{"imagerepo/archive/internal/nbd", []string{"meta/untrusted"}},
	{"imagerepo/archive/internal/disk", []string{"meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/archive/internal/extents", "imagerepo/archive/internal/nbd"}},
	{"imagerepo/archive/internal/attached", []string{"meta/untrusted", "imagerepo/atomicfile", "imagerepo/archive/internal/catalog"}},
	{"imagerepo/archive/internal/guest", []string{"imagerepo/atomicfile", "imagerepo/internal/sharing", "imagerepo/archive/internal/..."}},
	{"imagerepo/archive/internal/increment", []string{"cksum", "delta", "imagerepo/atomicfile", "imagerepo/archive/internal/catalog", "imagerepo/archive/internal/extents", "imagerepo/archive/internal/pieces"}},
	{"imagerepo/archive/internal/...", []string{"cksum", "delta", "delta/compact", "delta/mmap", "imagerepo/atomicfile", "imagerepo/archive/internal/..."}},
	{"imagerepo/serve", []string{"imagerepo/atomicfile", "imagerepo/internal/mediatype", "imagerepo/internal/mirror", "imagerepo/internal/state"}},
	{"imagerepo/farm", []string{"cksum", "delta", "delta/mmap", "delta/compact", "delta/compact/squashfs", "meta", "meta/untrusted", "imagerepo/serve", "imagerepo/farm/internal/...", "imagerepo/internal/compacts", "imagerepo/internal/lockfile", "imagerepo/internal/pool", "imagerepo/internal/work"}},
	{"imagerepo/farm/internal/queue", []string{"cksum", "imagerepo/farm/internal/secret", "imagerepo/internal/scratch"}},
	{"imagerepo/farm/internal/secret", nil},
	{"imagerepo/farm/internal/board", []string{"imagerepo/internal/work"}},
	{"imagerepo/farm/internal/cache", []string{"cksum", "imagerepo/atomicfile", "imagerepo/farm/internal/transfer", "imagerepo/internal/lockfile", "imagerepo/internal/work"}},
	{"imagerepo/farm/internal/transfer", []string{"cksum", "meta/untrusted", "imagerepo/farm/internal/secret", "imagerepo/internal/work"}},
	{"imagerepo/publish", []string{"meta/untrusted", "imagerepo/internal/..."}},
	{"imagerepo/internal/mirrortest", []string{"cksum", "meta", "imagerepo", "imagerepo/atomicfile", "imagerepo/client", "imagerepo/plan", "imagerepo/trust", "imagerepo/internal/mirror", "testdata"}}, // for tests only
	{"imagerepo/pull/internal/selection", []string{"meta", "meta/untrusted", "imagerepo/plan"}},
	{"imagerepo/pull/internal/differ", []string{"cksum", "delta", "delta/mmap", "meta", "imagerepo/atomicfile", "imagerepo/internal/budget"}},
	{"imagerepo/pull/...", []string{"cksum", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/internal/...", "imagerepo/pull/internal/..."}},
	{"imagerepo/internal/store/storetest", []string{"imagerepo/internal/store", "testdata"}}, // for tests only
	{"imagerepo/trust", []string{"cksum", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/internal/..."}},
	{"imagerepo/client", []string{"cksum", "delta", "delta/compact", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/internal/...", "imagerepo/client/internal/..."}},
	{"imagerepo/client/internal/...", []string{"cksum", "delta", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/through", "imagerepo/internal/...", "imagerepo/client/internal/..."}},
	{"imagerepo/internal/assemble", []string{"cksum", "delta", "delta/compact", "meta", "imagerepo/atomicfile", "imagerepo/internal/budget", "imagerepo/internal/fetch"}},
	{"imagerepo/internal/base", []string{"cksum", "delta", "delta/mmap", "imagerepo/internal/meter"}},
	{"imagerepo/internal/compacts/compacttest", []string{"cksum", "delta", "delta/compact", "delta/compact/squashfs", "meta", "imagerepo/internal/..."}}, // for tests only
	{"imagerepo/internal/compacts", []string{"cksum", "delta/compact", "meta", "imagerepo/atomicfile", "imagerepo/plan", "imagerepo/internal/..."}},
	{"imagerepo/internal/...", []string{"cksum", "delta", "meta", "meta/untrusted", "imagerepo/atomicfile", "imagerepo/plan", "imagerepo/internal/..."}},
	{"cmd/internal/scripttest", []string{"testdata"}}, // for tests only
	{"cmd/internal/command", []string{"meta/untrusted", "cmd/internal/background", "cmd/internal/ui", "cmd/internal/version"}},
	{"cmd/internal/completion", []string{"cmd/internal/command"}},
	{"cmd/internal/packaging", []string{"cmd/internal/completion", "cmd/internal/manpage"}},
	{"cmd/internal/manpage", []string{"cmd/internal/command", "cmd/internal/version"}},
	{"cmd/internal/config", []string{"meta/untrusted", "cmd/internal/command"}},
	{"cmd/internal/notify", []string{"meta/untrusted"}},
	{"cmd/internal/outfile", []string{"imagerepo/atomicfile", "imagerepo/through"}},
	{"cmd/internal/setup", []string{"meta/untrusted", "imagerepo/plan", "imagerepo/trust", "cmd/internal/command", "cmd/internal/outfile"}},
	{"cmd/internal/textfile", []string{"meta/untrusted", "imagerepo/through", "cmd/internal/outfile"}},
	{"cmd/internal/ui", []string{"meta/untrusted"}},
	{"cmd/internal/...", nil},
	{"cmd/puavo-update-repository/internal/farmcmd", []string{"meta/untrusted", "imagerepo/atomicfile", "imagerepo/farm", "cmd/internal/command", "cmd/internal/ui", "cmd/internal/units", "cmd/internal/version"}},
	{"cmd/rdiff", []string{"delta", "delta/compact", "delta/compact/squashfs", "delta/mmap", "cmd/internal/outfile", "cmd/internal/units", "cmd/internal/version"}},
	{"cmd/...", []string{"cksum", "delta", "meta", "meta/untrusted", "imagerepo", "imagerepo/archive", "imagerepo/audit", "imagerepo/client", "imagerepo/compactdelta", "imagerepo/farm", "imagerepo/imagediff", "imagerepo/plan", "imagerepo/publish", "imagerepo/pull", "imagerepo/serve", "imagerepo/through", "imagerepo/trust", "cmd/internal/command", "cmd/internal/config", "cmd/internal/notify", "cmd/internal/outfile", "cmd/internal/setup", "cmd/internal/textfile", "cmd/internal/ui", "cmd/internal/units", "cmd/puavo-update-repository/internal/...", "cmd/internal/completion", "cmd/internal/manpage"}},
	{"testdata", nil},
	{"bench/...", []string{"..."}},
}

// users tells which third-party modules may be imported by several packages, and
// by which. Every other module has one package that imports it.
var users = map[string][]string{
	"golang.org/x/sys":           {"..."},
	"github.com/urfave/cli/v2":   {"cmd/..."},
	"github.com/mmcloughlin/avo": {"cksum/internal/kernel/_asm", "delta/internal/kernel/_asm"},
	"golang.org/x/crypto":        {"delta/internal/sums", "imagerepo/internal/store/sftp"}, // MD4, BLAKE2; SSH
	// Blocks of squashfs, and streams of compact deltas.
	"github.com/klauspost/compress": {"imagerepo/internal/puavoconf/squashfs", "delta/compact/internal/piece"},
	// Workers, here and there.
	"golang.org/x/sync": {"imagerepo/internal/pool", "delta/compact/internal/decode", "delta/compact/internal/ordered"},
	// The one signs what the other verifies.
	"github.com/theupdateframework/go-tuf/v2": {"imagerepo/trust", "imagerepo/internal/tuf"},
}

// forbidden tells which packages a command must not link, whoever imports them: so
// that it stays small; and os/user, which without cgo does not know all users.
var forbidden = map[string][]string{
	"cmd/puavo-update-image":      {"os/user"},
	"cmd/puavo-update-repository": {"os/user"},
	"cmd/rdiff":                   {"github.com/urfave/cli/...", "github.com/schollz/progressbar/...", "net/...", "os/user"},
}

// linkers may link what is forbidden, since none of ours calls that part of them, and are
// themselves linked by these alone, where that is said.
var linkers = map[string]map[string]string{
	"os/user": {
		"github.com/pkg/sftp": "", // its server shows names of owners
		// Its writer looks up names of owners. The queue's server makes backups with it, which
		// nothing of ours asks for.
		"archive/tar": "github.com/nats-io/nats-server/v2/server",
	},
}

// source is a Go file that is no test.
type source struct {
	name   string // from the top of the repository, with slashes
	folder string
	*ast.File
}

// sources parses the Go files of the repository, tests left out.
func sources(t *testing.T) (all []source) {
	t.Helper()
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.SkipObjectResolution)
		all = append(all, source{name, path.Dir(name), f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// imports returns the paths that a file imports.
func (s source) imports() (paths []string) {
	for _, spec := range s.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// matches reports whether a folder is the one of a pattern, or, where that ends
// in "...", lies there.
func matches(pattern, folder string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(folder+"/", prefix)
	}
	return folder == pattern
}

func matchesOne(patterns []string, folder string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, folder) })
}

// Packages import each other only along the arrows.
func TestArrows(t *testing.T) {
	for _, s := range sources(t) {
		i := 0
		for i < len(arrows) && !matches(arrows[i].from, s.folder) {
			i++
		}
		if i == len(arrows) {
			t.Errorf("%s: nothing is said about the imports of %s", s.name, s.folder)
			continue
		}
		for _, p := range s.imports() {
			if p == module {
				t.Errorf("%s imports %q", s.name, p)
			}
			if to, ours := strings.CutPrefix(p, module+"/"); ours && !matchesOne(arrows[i].to, to) {
				t.Errorf("%s imports %q; %s may import %q of this module", s.name, p, s.folder, arrows[i].to)
			}
		}
	}
}

// A third-party module is imported by one package, so that replacing it is a
// change to one package.
func TestThirdParty(t *testing.T) {
	modules := required(t)
	importers := make(map[string]map[string]string) // module, folder -> file
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
				continue // this module's or the standard library's
			}
			m := moduleOf(p, modules)
			if m == "" {
				t.Errorf("%s imports %q, which no go.mod requires", s.name, p)
			} else if importers[m] == nil {
				importers[m] = map[string]string{s.folder: s.name}
			} else {
				importers[m][s.folder] = s.name
			}
		}
	}
	for m, files := range importers {
		if allowed, several := users[m]; several {
			maps.DeleteFunc(files, func(folder, _ string) bool { return matchesOne(allowed, folder) })
		} else if len(files) == 1 {
			continue
		}
		for _, file := range files {
			t.Errorf("%s imports %s, which another package has", file, m)
		}
	}
}

// required returns the modules that the go.mod files require.
func required(t *testing.T) (modules []string) {
	t.Helper()
	for _, path := range goMods {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before := len(modules)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(strings.TrimPrefix(line, "require "))
			if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
				modules = append(modules, fields[0])
			}
		}
		if len(modules) == before {
			t.Fatalf("no modules in %s", path)
		}
	}
	return modules
}

// moduleOf returns the module that has a package: the longest that fits.
func moduleOf(pkg string, modules []string) (module string) {
	for _, m := range modules {
		if len(m) > len(module) && strings.HasPrefix(pkg+"/", m+"/") {
			module = m
		}
	}
	return module
}

// A command links nothing that it must not.
func TestForbidden(t *testing.T) {
	for command, patterns := range forbidden {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}{{"\n"}}{{end}}`, module+"/"+command)
		list.Stderr = t.Output()
		deps, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		by := make(map[string][]string)
		for line := range strings.Lines(string(deps)) {
			from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
			by[to] = append(by[to], from)
		}
		for dep, linking := range by {
			for _, from := range linking {
				if matchesOne(patterns, dep) && !matchesOne(patterns, from) && !mayLink(from, dep, by) {
					t.Errorf("%s links %s, by %s", command, dep, from)
				}
			}
		}
	}
}

// mayLink reports whether one package may link another that is forbidden; by are those that link
// each.
func mayLink(from, dep string, by map[string][]string) bool {
	alone, ok := linkers[dep][from]
	return ok && (alone == "" || !slices.ContainsFunc(by[from], func(other string) bool { return other != alone }))
}

// The process, its exit and its streams, belongs to main; package command is
// what all mains have in common. The rest is given its writers.
func TestOnlyMainPrints(t *testing.T) {
	process := map[string][]string{
		"os":  {"Exit", "Stdin", "Stdout", "Stderr"},
		"fmt": {"Print", "Printf", "Println"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"},
	}
	for _, s := range sources(t) {
		if path.Base(s.name) == "main.go" || s.name == "cmd/internal/command/command.go" {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && slices.Contains(process[pkg.Name], n.Sel.Name) {
					t.Errorf("%s uses %s.%s, which only main.go may", s.name, pkg.Name, n.Sel.Name)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
					t.Errorf("%s calls %s", s.name, f.Name)
				}
			}
			return true
		})
	}
}

// What a process that dies, or a power cut, may leave half done goes through
// package atomicfile: nothing else calls what changes files. Not so what has no
// place in a mirror or images directory.
func TestOneSeam(t *testing.T) {
	changes := map[string]bool{
		"Rename": true, "Remove": true, "RemoveAll": true, "Link": true, "Symlink": true, "Truncate": true,
		"Create": true, "OpenFile": true, "WriteFile": true, "Mkdir": true, "MkdirAll": true, "OpenRoot": true,
	}
	allowed := map[string]string{
		"cmd/internal/outfile/outfile.go":             "OpenFile", // of a device or a pipe, to write through
		"cmd/internal/ui/passphrase.go":               "OpenFile", // of the terminal
		"cmd/rdiff/files.go":                          "Remove",   // of what is copied from a pipe, which has no name then
		"delta/mmap/mmap.go":                          "OpenFile", // for reading
		"imagerepo/archive/internal/target/target.go": "OpenFile", // of a device, to write through
		"imagerepo/client/apply.go":                   "OpenFile", // for reading
		"imagerepo/internal/mirror/mirror.go":         "MkdirAll", // of the mirror itself
		"imagerepo/through/through.go":                "OpenFile", // of a device or a pipe, to write through
		"imagerepo/trust/keys.go":                     "Mkdir",    // of the directory of keys itself
		"meta/untrusted/read.go":                      "OpenFile", // for reading
	}
	exempt := []string{"imagerepo/atomicfile", "imagerepo/internal/powercut", "imagerepo/internal/mirrortest", "imagerepo/internal/store/storetest", "cmd/internal/scripttest", "cmd/internal/packaging/...", "testdata", "bench/..."} // what is for tests and developers
	for _, s := range sources(t) {
		if matchesOne(exempt, s.folder) {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, isName := call.X.(*ast.Ident)
			if isName && pkg.Name == "os" && changes[call.Sel.Name] && allowed[s.name] != call.Sel.Name {
				t.Errorf("%s uses os.%s; change files through package atomicfile", s.name, call.Sel.Name)
			}
			return true
		})
	}
}
