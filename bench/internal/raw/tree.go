package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// treeSize is about what the files of each state of the tree take, in bytes.
const treeSize = 300 << 20

// file is a file of a tree. Files of the same fields have the same content.
type file struct {
	path   string // without a leading slash
	size   int64
	seed   uint64
	edited bool // has some bytes more, near the middle
}

// states returns the files of the two states, in the order of their paths. Of 100
// files, 10 are replaced by others of about their size, 4 are edited, 4 removed, and
// 4 are new in the second state.
func states(percent int64) (a, b []file) {
	r := rand.New(seeded("tree", 0))
	seed := uint64(0)
	newFile := func(path string) file {
		seed++
		return file{path: path, size: fileSize(r), seed: seed}
	}
	for total := int64(0); total < treeSize*percent/100; total += a[len(a)-1].size {
		n := len(a)
		a = append(a, newFile(fmt.Sprintf("usr/d%02d/s%d/f%05d", n/400, n/40%10, n)))
	}
	for _, f := range a {
		switch n := r.IntN(100); {
		case n < 10:
			seed++
			f.seed, f.size = seed, f.size*int64(80+r.IntN(40))/100
		case n < 14:
			f.edited = true
		case n < 18:
			continue
		case n < 22:
			b = append(b, newFile(f.path+"n"))
		}
		b = append(b, f)
	}
	slices.SortFunc(b, func(x, y file) int { return strings.Compare(x.path, y.path) })
	return a, b
}

// fileSize returns a size as a system's files have: most are of some KB, and most
// bytes in files of some MB.
func fileSize(r *rand.Rand) int64 {
	switch n := r.IntN(100); {
	case n < 70:
		return 200 + r.Int64N(16<<10)
	case n < 95:
		return 16<<10 + r.Int64N(112<<10)
	default:
		return 256<<10 + r.Int64N(2<<20)
	}
}

// write writes the content: two of three files are text.
func (f file) write(w io.Writer) error {
	source := seeded("file", f.seed)
	r := rand.New(source)
	part := func(size int64) error {
		if f.seed%3 != 0 {
			return writeText(w, r, size)
		}
		_, err := io.CopyN(w, source, size)
		return err
	}
	if err := part(f.size / 2); err != nil {
		return err
	}
	if f.edited {
		if _, err := fmt.Fprintf(w, "edited %d\n", f.seed); err != nil {
			return err
		}
	}
	return part(f.size - f.size/2)
}

// writeTrees writes both states below a directory, and the scripts for debugfs.
func writeTrees(dir string, percent int64) error {
	a, b := states(percent)
	before := make(map[string]file)
	for _, f := range a {
		before[f.path] = f
		if err := f.create(dir, 0); err != nil {
			return err
		}
	}
	for _, f := range b {
		if before[f.path] != f {
			if err := f.create(dir, 1); err != nil {
				return err
			}
			continue
		}
		path := filepath.Join(dir, "b", f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.Link(filepath.Join(dir, "a", f.path), path); err != nil {
			return err
		}
	}
	if err := create(filepath.Join(dir, "make"), func(w io.Writer) error { return script(w, 0, nil, a) }); err != nil {
		return err
	}
	return create(filepath.Join(dir, "update"), func(w io.Writer) error { return script(w, 1, a, b) })
}

// create writes the file in the tree of a state, with that state's time.
func (f file) create(dir string, state int) error {
	path := filepath.Join(dir, "ab"[state:state+1], f.path)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	if err := create(path, f.write); err != nil {
		return err
	}
	return os.Chtimes(path, when(state), when(state))
}

// script writes commands for debugfs, run beside the trees, that change a file
// system from some files to others. debugfs writes into its current directory
// alone.
func script(w io.Writer, state int, from, to []file) error {
	fmt.Fprintf(w, "set_current_time %s\n", when(state).Format("20060102150405"))
	old := make(map[string]file)
	made := make(map[string]bool)
	for _, f := range from {
		old[f.path] = f
		makeFolders(io.Discard, made, f.path)
	}
	for _, f := range to {
		before, ok := old[f.path]
		delete(old, f.path)
		if ok && before == f {
			continue
		}
		makeFolders(w, made, f.path)
		folder, name := filepath.Split("/" + f.path)
		fmt.Fprintf(w, "cd %s\n", folder)
		if ok {
			fmt.Fprintf(w, "rm %s\n", name)
		}
		fmt.Fprintf(w, "write %s/%s %s\n", "ab"[state:state+1], f.path, name)
	}
	for _, f := range from {
		if _, gone := old[f.path]; gone {
			fmt.Fprintf(w, "rm /%s\n", f.path)
		}
	}
	_, err := fmt.Fprintln(w, "quit")
	return err
}

// makeFolders writes commands that make the folders of a path which are not made
// yet.
func makeFolders(w io.Writer, made map[string]bool, path string) {
	for i, c := range path {
		if c == '/' && !made[path[:i]] {
			made[path[:i]] = true
			folder, name := filepath.Split("/" + path[:i])
			fmt.Fprintf(w, "cd %s\nmkdir %s\n", folder, name)
		}
	}
}
