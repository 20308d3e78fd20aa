// Package peer has the ways to make and apply deltas that are compared.
package peer

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"puavo-image-repository/bench/internal/build"
)

// Files are the paths that a peer works on.
type Files struct{ Base, Target, Signature, Delta, Out string }

// Peer is a way to make and apply deltas.
type Peer struct {
	Name    string
	Version []string                 // the command that prints it, if any
	Largest int64                    // of a target it is tried on, in bytes; 0: any
	Diff    func(f Files) [][]string // commands that make Delta, one after the other
	Patch   func(f Files) []string   // the command that makes Out
	Full    bool                     // whether it makes something of a target alone
	tool    string                   // the command that must be there
}

// Reference is the peer that ratios are to: what the predecessor does.
const Reference = "rdiff -b 128"

// Ours is our rdiff delta, to which ratios of compact deltas are.
const Ours = "ours, rdiff"

const librsyncGoModule, librsyncGoVersion = "github.com/balena-os/librsync-go/cmd/rdiff", "@v0.9.0"

// Find returns the peers that are installed and whose names match, ours built in tmp,
// and the names of those that are not installed. Reference comes first, whatever its
// name.
func Find(ctx context.Context, tmp string, only *regexp.Regexp, stderr io.Writer) (found []Peer, missing []string, err error) {
	ours, theirs := filepath.Join(tmp, "ours"), filepath.Join(tmp, "librsync-go")
	if err := build.Command(ctx, "rdiff", ours); err != nil {
		return nil, nil, err
	}
	if err := buildLibrsyncGo(ctx, filepath.Join(tmp, "module"), theirs); err != nil {
		fmt.Fprintln(stderr, "bench: librsync-go is left out:", err)
	}
	for _, p := range peers(ours, theirs) {
		if p.Name != Reference && !only.MatchString(p.Name) {
			continue
		}
		if _, err := exec.LookPath(p.tool); err != nil {
			missing = append(missing, p.Name)
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
		if err := build.Go(ctx, dir, args...); err != nil {
			return err
		}
	}
	return nil
}

func peers(ours, librsyncGo string) []Peer {
	all := []Peer{rdiff(Reference, "rdiff", "128"), rdiff("rdiff -b 2048", "rdiff", "2048")}
	for _, effort := range []string{"fast", "default", "best"} {
		all = append(all, Peer{
			Name: "ours, " + effort, tool: ours,
			Diff: func(f Files) [][]string {
				return [][]string{{ours, "-f", "diff", "--effort", effort, f.Base, f.Target, f.Delta}}
			},
			Patch: func(f Files) []string { return []string{ours, "-f", "patch", f.Base, f.Delta, f.Out} },
		})
	}
	return append(all, rdiff("ours, signature -b 128", ours, "128"), rdiff("ours, signature -b 2048", ours, "2048"),
		Peer{
			Name: "librsync-go -b 128", tool: librsyncGo, Largest: 2 << 30, // others take memory, or an hour
			Diff: func(f Files) [][]string {
				return [][]string{{librsyncGo, "signature", "-b", "128", f.Base, f.Signature}, {librsyncGo, "delta", f.Signature, f.Target, f.Delta}}
			},
			Patch: func(f Files) []string { return []string{librsyncGo, "patch", f.Base, f.Delta, f.Out} },
		},
		Peer{
			Name: "xdelta3 -1", tool: "xdelta3", Version: []string{"xdelta3", "-V"},
			Diff: func(f Files) [][]string {
				return [][]string{{"xdelta3", "-f", "-e", "-1", "-S", "none", "-B", "1073741824", "-s", f.Base, f.Target, f.Delta}}
			},
			Patch: func(f Files) []string {
				return []string{"xdelta3", "-f", "-d", "-B", "1073741824", "-s", f.Base, f.Delta, f.Out}
			},
		},
		Peer{
			Name: "zstd -3 --patch-from", tool: "zstd", Version: []string{"zstd", "--version"},
			Diff: func(f Files) [][]string {
				return [][]string{{"zstd", "-q", "-f", "-3", "--long=31", "--patch-from=" + f.Base, f.Target, "-o", f.Delta}}
			},
			Patch: func(f Files) []string {
				return []string{"zstd", "-q", "-f", "-d", "--long=31", "--patch-from=" + f.Base, f.Delta, "-o", f.Out}
			},
		},
		Peer{
			Name: "bsdiff", tool: "bsdiff", Largest: 64 << 20,
			Diff:  func(f Files) [][]string { return [][]string{{"bsdiff", f.Base, f.Target, f.Delta}} },
			Patch: func(f Files) []string { return []string{"bspatch", f.Base, f.Out, f.Delta} },
		})
}

// rdiff returns a peer with rdiff's command line.
func rdiff(name, tool, block string) Peer {
	var version []string
	if tool == "rdiff" {
		version = []string{tool, "--version"}
	}
	return Peer{
		Name: name, tool: tool, Version: version,
		Diff: func(f Files) [][]string {
			return [][]string{{tool, "-f", "-b", block, "signature", f.Base, f.Signature}, {tool, "-f", "delta", f.Signature, f.Target, f.Delta}}
		},
		Patch: func(f Files) []string { return []string{tool, "-f", "patch", f.Base, f.Delta, f.Out} },
	}
}
