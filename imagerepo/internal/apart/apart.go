// Package apart refuses directories that a builder must not be given: an image
// directory in a mirror, a mirror in another mirror, and the two swapped.
package apart

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// Check returns an error for directories that would interfere with each other.
func Check(imageDir, mirrorDir string) error {
	images, err := os.Stat(imageDir)
	if err != nil {
		return err
	}
	if !images.IsDir() {
		return fmt.Errorf("%s is not a directory; give the directory of the images", imageDir)
	}
	if info, err := os.Stat(mirrorDir); err == nil && !info.IsDir() {
		return fmt.Errorf("the mirror %s is not a directory; remove it or choose another", mirrorDir)
	}
	if err := separate(imageDir, mirrorDir); err != nil {
		return err
	}
	if what := sign(imageDir); what != "" {
		return swapped(imageDir, mirrorDir, what)
	}
	return nil
}

// separate refuses directories of which one is in the other, or in another mirror.
func separate(imageDir, mirrorDir string) error {
	here, err := filepath.EvalSymlinks(imageDir)
	if err != nil {
		return err
	}
	if here, err = filepath.Abs(here); err != nil {
		return err
	}
	if inside(here, mirrorDir) {
		return fmt.Errorf("the image directory %s is inside the mirror %s; give the directory where the images are made", imageDir, mirrorDir)
	}
	there, err := filepath.Abs(mirrorDir)
	if err != nil {
		return err
	}
	for dir := filepath.Dir(there); ; dir = filepath.Dir(dir) {
		if same(dir, here) {
			// What is wrong with the image directory is another error.
		} else if _, err := os.Stat(filepath.Join(dir, mirror.Private)); err == nil {
			return fmt.Errorf("the mirror %s is inside another mirror, %s; choose another directory", mirrorDir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	for ; !same(path, dir); path = filepath.Dir(path) {
		if path == filepath.Dir(path) {
			return false
		}
	}
	return true
}

func same(a, b string) bool {
	is, errA := os.Stat(a)
	want, errB := os.Stat(b)
	return a == b || errA == nil && errB == nil && os.SameFile(is, want)
}

// sign returns by what a directory is known for a mirror, "" if it is none.
func sign(dir string) string {
	if _, err := os.Lstat(filepath.Join(dir, mirror.Private)); err == nil {
		return "it has " + mirror.Private
	}
	for _, list := range []struct {
		name  string
		names func(data []byte) []string
	}{{mirror.CKSUMS, inCKSUMS}, {mirror.Index, inIndex}} {
		if slices.ContainsFunc(list.names(read(dir, list.name)), func(image string) bool {
			_, err := meta.ParseOldName(image)
			return err == nil && regular(filepath.Join(dir, image))
		}) {
			return "its " + list.name + " names its images"
		}
	}
	return ""
}

func inCKSUMS(data []byte) (names []string) {
	lines, _ := cksum.ParseCKSUMS(bytes.NewReader(data))
	for _, l := range lines {
		names = append(names, l.Name)
	}
	return names
}

func inIndex(data []byte) (names []string) {
	index, _ := meta.ParseIndex(data)
	for _, s := range index.Series {
		names = append(names, s.Newest)
	}
	return names
}

func regular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// read returns a document of a directory, nothing if it is none.
func read(path, name string) []byte {
	dir, err := atomicfile.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	data, _ := dir.ReadFile(name, meta.MaxDocument)
	return data
}

// ErrSwapped is wrapped by the error for an image directory that is a mirror.
var ErrSwapped = errors.New("the image directory is a mirror")

// swapped returns the error for an image directory that is a mirror. Where the
// mirror is not where the images are, the error says how to undo a run with both swapped.
func swapped(imageDir, mirrorDir, what string) error {
	const swap = "%w: %s (%s); did you swap the two? Give first the directory where the images are made, then the mirror"
	if sign(mirrorDir) == "" && hasImages(mirrorDir) {
		return fmt.Errorf(swap, ErrSwapped, imageDir, what)
	}
	return fmt.Errorf(swap+". If your images are made in %[2]s, an earlier run with the two swapped left %[4]s there; these commands remove that, and no image:\n%[5]s",
		ErrSwapped, imageDir, what, strings.Join(left(imageDir), ", "), strings.Join(commands(imageDir), "\n"))
}

func hasImages(dir string) bool {
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		_, err := meta.ParseOldName(e.Name())
		return err == nil
	})
}

// left returns what a run has left in a directory besides images.
func left(dir string) (names []string) {
	for _, name := range slices.Concat([]string{mirror.Private}, mirror.Folders(), []string{mirror.TUF, mirror.Index, mirror.CKSUMS, mirror.SHA256}) {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// commands returns the commands that remove what a run has left in a directory.
func commands(dir string) (all []string) {
	for _, name := range slices.Backward(left(dir)) { // the records last: they say what was left
		path := filepath.Join(dir, name)
		switch {
		case name == mirror.Private, name == mirror.TUF:
			all = append(all, "rm -r "+quote(path))
		case slices.Contains(mirror.Folders(), name):
			if recorded := recordedIn(dir, name); len(recorded) > 0 {
				all = append(all, "rm "+strings.Join(recorded, " "))
			}
			if list := filepath.Join(path, mirror.SHA256); regular(list) {
				all = append(all, "rm "+quote(list))
			}
			all = append(all, "rmdir "+quote(path))
		default:
			all = append(all, "rm "+quote(path))
		}
	}
	return all
}

// recordedIn returns the paths, for a shell, of what a run has made in a folder but the list
// of its digests: one pattern, unless something of the kind there is another's.
func recordedIn(dir, folder string) (paths []string) {
	entries, _ := os.ReadDir(filepath.Join(dir, folder))
	others, ext := false, ""
	for _, e := range entries {
		if e.Name() == mirror.SHA256 {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, mirror.StateDir, e.Name()+".json")); err != nil {
			others = others || !e.IsDir()
			continue
		}
		paths, ext = append(paths, quote(filepath.Join(dir, folder, e.Name()))), filepath.Ext(e.Name())
	}
	if len(paths) > 1 && !others {
		return []string{quote(filepath.Join(dir, folder)) + "/*" + ext}
	}
	return paths
}

// quote quotes a path for a shell.
func quote(path string) string {
	if strings.IndexFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@", r))
	}) < 0 && !strings.HasPrefix(path, "-") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// Overlap reports whether one of two directories is the other or lies in it, whatever links
// lead there. They need not exist.
func Overlap(a, b string) bool {
	a, b = resolved(a), resolved(b)
	return inside(a, b) || inside(b, a)
}

// resolved returns the path of the directory that is there, or of the nearest one above it, and
// what follows, without links.
func resolved(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	rest := ""
	for dir := abs; ; dir = filepath.Dir(dir) {
		if found, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(found, rest)
		}
		if dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}
