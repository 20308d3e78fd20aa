package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is a module that a program links, or Go's own library.
type module struct {
	path  string
	files []string // the paths of its licences, and of notices for users
}

// copyright returns the file copyright of a package, in the format of Debian's DEP 5: our own
// licence, and those of all modules that its programs link, of which it has the text.
func (b builder) copyright(ctx context.Context, p pkg) (string, error) {
	modules, err := b.modules(ctx, p)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString(`Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: puavo-image-repository
Comment:
 The programs are linked statically. A path below, other than *, is that of a Go
 module that is linked into them, and std is the library of Go itself.

Files: *
Copyright: 2026 The authors of puavo-image-repository
License: Apache-2.0
`)
	texts := newTexts()
	for _, m := range modules {
		stanza, err := m.stanza(texts)
		if err != nil {
			return "", err
		}
		out.WriteString("\n" + stanza)
	}
	return out.String() + texts.String(), nil
}

// modules returns what the programs of a package link, on any architecture, sorted.
func (b builder) modules(ctx context.Context, p pkg) ([]module, error) {
	goroot, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	own, err := legalFiles(strings.TrimSpace(string(goroot)))
	if err != nil {
		return nil, err
	}
	found := map[string][]string{"std": own}
	for _, arch := range architectures {
		args := []string{"list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}}|{{.Dir}}|{{$.Dir}}{{end}}{{end}}`}
		for _, command := range p.commands {
			args = append(args, "./cmd/"+command)
		}
		list := exec.CommandContext(ctx, "go", args...)
		list.Dir, list.Stderr = b.root, b.log
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for line := range strings.Lines(string(out)) {
			fields := strings.Split(strings.TrimSpace(line), "|")
			if len(fields) != 3 {
				continue
			}
			files, err := filesFor(fields[1], fields[2])
			if err != nil {
				return nil, err
			}
			found[fields[0]] = append(found[fields[0]], files...)
		}
	}
	var all []module
	for _, path := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[path])
		all = append(all, module{path, slices.Compact(found[path])})
	}
	return all, nil
}

// filesFor returns the legal files of a module that are about one of its packages: those in
// the folders from the package's up to the module's.
func filesFor(module, dir string) (files []string, err error) {
	for ; strings.HasPrefix(dir, module); dir = filepath.Dir(dir) {
		more, err := legalFiles(dir)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)(\.(txt|md))?$`)
	noticeFile  = regexp.MustCompile(`(?i)^notice(\.(txt|md))?$`)
	holder      = regexp.MustCompile(`(?im)^[ \t/*#]*(copyright[ \t]+(?:\(c\)|©|[0-9]{4}).*?)[ \t]*$`)
)

// legalFiles returns the paths of licences and notices in a folder.
func legalFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if name := entry.Name(); licenceFile.MatchString(name) || noticeFile.MatchString(name) {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, err
}

// stanza returns what the file says of a module, and adds its licence to texts.
func (m module) stanza(texts *texts) (string, error) {
	var licence, notice []byte
	for _, path := range m.files {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if noticeFile.MatchString(filepath.Base(path)) {
			notice = append(notice, text...)
		} else if !bytes.Contains(licence, text) {
			licence = append(append(licence, text...), '\n')
		}
	}
	name, err := texts.add(string(licence))
	if err != nil {
		return "", fmt.Errorf("the licence of %s, of %q: %w", m.path, m.files, err)
	}
	s := "Files: " + m.path + "/*\nCopyright:" + indented(strings.Join(m.holders(licence), "\n")) + "License: " + name + "\n"
	if len(bytes.TrimSpace(notice)) > 0 {
		s += "Comment: The module's file NOTICE:" + indented(string(notice))
	}
	return s, nil
}

// holders returns the lines of a licence that say whose the copyright is.
func (m module) holders(licence []byte) (lines []string) {
	for _, match := range holder.FindAllSubmatch(licence, -1) {
		line := strings.TrimSpace(string(match[1]))
		if !strings.Contains(line, "[yyyy]") && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		lines = []string{"The authors of " + m.path}
	}
	return lines
}

// indented returns a text as the continuation of a field.
func indented(text string) string {
	var b strings.Builder
	b.WriteString("\n")
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		if line = strings.TrimRight(line, " \t\r\n\f"); line == "" {
			line = "."
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}
