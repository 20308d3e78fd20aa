package peer

import (
	"context"
	"os/exec"
	"path/filepath"

	"puavo-image-repository/bench/internal/build"
)

// FindCompact returns the peers of compact deltas that are installed, ours built in tmp, and
// the names of those that are not installed.
func FindCompact(ctx context.Context, tmp string) (found []Peer, missing []string, err error) {
	ours := filepath.Join(tmp, "ours")
	if err := build.Command(ctx, "rdiff", ours); err != nil {
		return nil, nil, err
	}
	for _, p := range compactPeers(ours) {
		if _, err := exec.LookPath(p.tool); err != nil {
			missing = append(missing, p.Name)
			continue
		}
		found = append(found, p)
	}
	return found, missing, nil
}

func compactPeers(ours string) []Peer {
	return []Peer{
		ourDiff(ours, Ours, false),
		rdiff(Reference, "rdiff", "128"),
		{
			Name: "ours, rdiff, zstd -19", tool: "zstd", Version: []string{"zstd", "--version"}, Full: true,
			Diff: func(f Files) [][]string {
				return [][]string{{ours, "-f", "diff", f.Base, f.Target, f.Signature}, {"zstd", "-q", "-f", "-19", "--long=27", f.Signature, "-o", f.Delta}}
			},
			Patch: func(f Files) []string {
				return []string{"sh", "-c", `zstd -q -d -c --long=27 "$2" | "$0" -f patch "$1" - "$3"`, ours, f.Base, f.Delta, f.Out}
			},
		},
		{
			Name: "xdelta3 -9", tool: "xdelta3", Version: []string{"xdelta3", "-V"},
			Diff: func(f Files) [][]string {
				return [][]string{{"xdelta3", "-f", "-e", "-9", "-B", "1073741824", "-s", f.Base, f.Target, f.Delta}}
			},
			Patch: func(f Files) []string {
				return []string{"xdelta3", "-f", "-d", "-B", "1073741824", "-s", f.Base, f.Delta, f.Out}
			},
		},
		{
			Name: "zstd -9 --patch-from", tool: "zstd", Largest: 1 << 31,
			Diff: func(f Files) [][]string {
				return [][]string{{"zstd", "-q", "-f", "-9", "--long=31", "--patch-from=" + f.Base, f.Target, "-o", f.Delta}}
			},
			Patch: func(f Files) []string {
				return []string{"zstd", "-q", "-f", "-d", "--long=31", "--patch-from=" + f.Base, f.Delta, "-o", f.Out}
			},
		},
		ourDiff(ours, "ours, compact", true, "--compact"),
	}
}

// ourDiff returns our peer with some options.
func ourDiff(ours, name string, full bool, options ...string) Peer {
	return Peer{
		Name: name, tool: ours, Full: full,
		Diff: func(f Files) [][]string {
			return [][]string{append(append([]string{ours, "-f", "diff"}, options...), f.Base, f.Target, f.Delta)}
		},
		Patch: func(f Files) []string { return []string{ours, "-f", "patch", f.Base, f.Delta, f.Out} },
	}
}
