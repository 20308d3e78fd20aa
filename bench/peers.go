package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// files are the paths that a peer works on.
type files struct{ base, target, sig, delta, out string }

// peer is a way to make and apply deltas.
type peer struct {
	name    string
	tool    string // the command that must be there
	version []string
	largest int64 // of a target it is tried on, in bytes; 0: any
	diff    func(f files) [][]string
	patch   func(f files) []string
}

// reference is the peer that ratios are to: what the predecessor does.
const reference = "rdiff -b 128"

const librsyncGoModule, librsyncGoVersion = "github.com/balena-os/librsync-go/cmd/rdiff", "@v0.9.0"

// findPeers returns the peers that are there, ours built anew in tmp, and the
// names of those that are not.
func findPeers(ctx context.Context, tmp string, only *regexp.Regexp, stderr io.Writer) (found []peer, missing []string, err error) {
	ours, theirs := filepath.Join(tmp, "ours"), filepath.Join(tmp, "librsync-go")
	if err := buildCommand(ctx, "rdiff", ours); err != nil {
		return nil, nil, err
	}
	if err := buildLibrsyncGo(ctx, filepath.Join(tmp, "module"), theirs); err != nil {
		fmt.Fprintln(stderr, "bench: librsync-go is left out:", err)
	}
	for _, p := range peers(ours, theirs) {
		if p.name != reference && !only.MatchString(p.name) {
			continue
		}
		if _, err := exec.LookPath(p.tool); err != nil {
			missing = append(missing, p.name)
			continue
		}
		found = append(found, p)
	}
	return found, missing, nil
}

// buildLibrsyncGo builds librsync-go's command in a module of its own, with the
// versions that its users have.
func buildLibrsyncGo(ctx context.Context, dir, binary string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "peer"},
		{"get", librsyncGoModule + librsyncGoVersion},
		{"build", "-o", binary, librsyncGoModule},
	} {
		if err := goRun(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// top is the top of the repository, from the folder bench.
const top = ".."

// buildCommand builds a command of this project.
func buildCommand(ctx context.Context, name, binary string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	return goRun(ctx, top, "build", "-o", binary, "./cmd/"+name)
}

func goRun(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}

func peers(ours, librsyncGo string) []peer {
	all := []peer{rdiff(reference, "rdiff", "128"), rdiff("rdiff -b 2048", "rdiff", "2048")}
	for _, effort := range []string{"fast", "default", "best"} {
		all = append(all, peer{
			name: "ours, " + effort, tool: ours,
			diff: func(f files) [][]string {
				return [][]string{{ours, "-f", "diff", "--effort", effort, f.base, f.target, f.delta}}
			},
			patch: func(f files) []string { return []string{ours, "-f", "patch", f.base, f.delta, f.out} },
		})
	}
	return append(all, rdiff("ours, signature -b 128", ours, "128"), rdiff("ours, signature -b 2048", ours, "2048"),
		peer{
			name: "librsync-go -b 128", tool: librsyncGo,
			diff: func(f files) [][]string {
				return [][]string{{librsyncGo, "signature", "-b", "128", f.base, f.sig}, {librsyncGo, "delta", f.sig, f.target, f.delta}}
			},
			patch: func(f files) []string { return []string{librsyncGo, "patch", f.base, f.delta, f.out} },
		},
		peer{
			name: "xdelta3 -1", tool: "xdelta3", version: []string{"xdelta3", "-V"},
			diff: func(f files) [][]string {
				return [][]string{{"xdelta3", "-f", "-e", "-1", "-S", "none", "-B", "1073741824", "-s", f.base, f.target, f.delta}}
			},
			patch: func(f files) []string {
				return []string{"xdelta3", "-f", "-d", "-B", "1073741824", "-s", f.base, f.delta, f.out}
			},
		},
		peer{
			name: "zstd -3 --patch-from", tool: "zstd", version: []string{"zstd", "--version"},
			diff: func(f files) [][]string {
				return [][]string{{"zstd", "-q", "-f", "-3", "--long=31", "--patch-from=" + f.base, f.target, "-o", f.delta}}
			},
			patch: func(f files) []string {
				return []string{"zstd", "-q", "-f", "-d", "--long=31", "--patch-from=" + f.base, f.delta, "-o", f.out}
			},
		},
		peer{
			name: "bsdiff", tool: "bsdiff", largest: 64 << 20,
			diff:  func(f files) [][]string { return [][]string{{"bsdiff", f.base, f.target, f.delta}} },
			patch: func(f files) []string { return []string{"bspatch", f.base, f.out, f.delta} },
		})
}

// rdiff returns a peer with rdiff's command line.
func rdiff(name, tool, block string) peer {
	var version []string
	if tool == "rdiff" {
		version = []string{tool, "--version"}
	}
	return peer{
		name: name, tool: tool, version: version,
		diff: func(f files) [][]string {
			return [][]string{{tool, "-f", "-b", block, "signature", f.base, f.sig}, {tool, "-f", "delta", f.sig, f.target, f.delta}}
		},
		patch: func(f files) []string { return []string{tool, "-f", "patch", f.base, f.delta, f.out} },
	}
}
