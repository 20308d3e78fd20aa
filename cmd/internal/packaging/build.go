package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"puavo-image-repository/cmd/internal/completion"
	"puavo-image-repository/cmd/internal/manpage"
)

// nfpm writes packages. Its 39 modules stay out of go.mod.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"

// stamp is the variable that the version is put into.
const stamp = "puavo-image-repository/cmd/internal/version.stamped"

var architectures = []string{"amd64", "arm64"}

// pkg is a package.
type pkg struct {
	name string
	dir  string // the folder of its files, from the top
	// commands are the folders below cmd of what it installs. The first makes its own
	// manual pages, and is completed by shells.
	commands []string
	// pages are manual pages that are written by hand: their paths, by the names of what they
	// are about.
	pages map[string]string
}

var packages = []pkg{
	{
		name: "puavo-image-repository", dir: "cmd/puavo-update-repository/packaging", commands: []string{"puavo-update-repository", "rdiff"},
		pages: map[string]string{"puavo-rdiff": "cmd/rdiff/man.md"},
	},
	{name: "puavo-image-client", dir: "cmd/puavo-update-image/packaging", commands: []string{"puavo-update-image"}},
}

// builder makes all packages.
type builder struct {
	root    string // of the checkout
	stage   string // what is being made
	out     string // where packages go
	version string // "" is that of the changelogs
	log     io.Writer
}

// all makes the packages, and returns their sums as sha256sum prints them.
func (b builder) all(ctx context.Context) (sums string, err error) {
	tools := filepath.Join(b.stage, "tools")
	if err := b.run(ctx, []string{"GOBIN=" + tools, "GOFLAGS="}, "go", "install", nfpm); err != nil {
		return "", err
	}
	for _, p := range packages {
		e, err := readChangelog(filepath.Join(b.root, p.dir, "changelog"))
		if err != nil {
			return "", err
		}
		if b.version != "" {
			e.version = b.version
		}
		for _, arch := range architectures {
			line, err := b.one(ctx, p, e, arch, tools)
			if err != nil {
				return "", fmt.Errorf("%s for %s: %w", p.name, arch, err)
			}
			sums += line
		}
	}
	return sums, nil
}

// one makes the package of an architecture, and returns its sum.
func (b builder) one(ctx context.Context, p pkg, e entry, arch, tools string) (string, error) {
	dir := filepath.Join(b.stage, p.name, arch)
	if err := b.fill(ctx, p, e, arch, dir); err != nil {
		return "", err
	}
	if err := even(dir, e.date); err != nil {
		return "", err
	}
	file := fmt.Sprintf("%s_%s_%s.deb", p.name, e.version, arch)
	target, err := filepath.Abs(filepath.Join(b.out, file))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(tools, "nfpm"), "package", "--config", "packaging/nfpm.yaml", "--packager", "deb", "--target", target)
	cmd.Dir, cmd.Stderr, cmd.Stdout = dir, b.log, b.log
	cmd.Env = append(os.Environ(), "ARCH="+arch, "VERSION="+e.version, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", e.date.Unix()))
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("nfpm: %w", err)
	}
	data, err := os.ReadFile(target)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(data), file), nil
}

// fill puts into a folder all that a package installs.
func (b builder) fill(ctx context.Context, p pkg, e entry, arch, dir string) error {
	if err := copyTree(filepath.Join(b.root, p.dir), filepath.Join(dir, "packaging")); err != nil {
		return err
	}
	for _, command := range p.commands {
		if err := b.build(ctx, command, e.version, arch, filepath.Join(dir, "bin", command)); err != nil {
			return err
		}
	}
	if err := b.describe(ctx, p, e, dir); err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(b.root, p.dir, "changelog"))
	if err != nil {
		return err
	}
	if err := writeZipped(filepath.Join(dir, "doc/changelog.gz"), changelog); err != nil {
		return err
	}
	text, err := b.copyright(ctx, p)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "doc/copyright"), []byte(text), 0o644)
}

// build builds a static program for an architecture.
func (b builder) build(ctx context.Context, command, version, arch, out string) error {
	return b.run(ctx, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=", "GOARM64=", "GOFLAGS=-mod=readonly"},
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X "+stamp+"="+version, "-o", out, "./cmd/"+command)
}

// describe writes the manual pages, and the completion of shells, of the first command. The
// program itself, built for this machine, has its pages.
func (b builder) describe(ctx context.Context, p pkg, e entry, dir string) error {
	command := p.commands[0]
	program := filepath.Join(b.stage, "host", command)
	if err := b.build(ctx, command, e.version, runtime.GOARCH, program); err != nil {
		return err
	}
	names, err := output(ctx, program, manpage.Argument)
	if err != nil {
		return err
	}
	pages := make(map[string][]byte)
	for name := range strings.FieldsSeq(string(names)) {
		if pages[name], err = output(ctx, program, manpage.Argument, name); err != nil {
			return err
		}
	}
	for name, path := range p.pages {
		text, err := os.ReadFile(filepath.Join(b.root, path))
		if err != nil {
			return err
		}
		pages[name] = manpage.Render(name, e.version, string(text))
	}
	for name, roff := range pages {
		if err := writeZipped(filepath.Join(dir, "man", name+".1.gz"), roff); err != nil {
			return err
		}
	}
	return writeScripts(command, filepath.Join(dir, "completion"))
}

// writeScripts writes the scripts that complete command lines.
func writeScripts(command, dir string) error {
	for _, shell := range completion.Shells() {
		script, err := completion.Script(command, shell)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, command+"."+shell), []byte(script), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// output returns what a program prints.
func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return out, nil
}

// run runs a command in the checkout with additional variables.
func (b builder) run(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr, cmd.Stdout = b.root, b.log, b.log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// writeFile writes a file, and makes the folders it is in.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask
}

// writeZipped writes a file as gzip -9n does.
func writeZipped(path string, data []byte) error {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return writeFile(path, b.Bytes(), 0o644)
}

// copyTree copies a folder. Of the modes only that for executing is kept.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return writeFile(filepath.Join(to, name), data, mode)
	})
}

// even sets the time of each file in a folder, and the modes of folders whatever the umask.
func even(dir string, to time.Time) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		if err != nil {
			return err
		}
		return os.Chtimes(path, to, to)
	})
}
