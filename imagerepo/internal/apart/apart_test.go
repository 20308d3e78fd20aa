package apart

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

const image = "os-2021-01-01-000000-amd64.img"

// makeFiles makes files of a directory; those that end in a slash are directories.
func makeFiles(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		path := filepath.Join(dir, name)
		folder := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			folder = path
		}
		if err := os.MkdirAll(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if folder == path {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheck(t *testing.T) {
	index := `index.json={"series":[{"name":"os-amd64","meta":"meta/os-amd64.json","images":1,"newest":"` + image + `"}]}`
	for _, c := range []struct {
		name           string
		files          []string
		images, mirror string
		says           string // "" for no error
	}{
		{"apart", []string{"i/" + image}, "i", "m", ""},
		{"apart, again", []string{"i/" + image, "m/.repo/", "m/" + image}, "i", "m", ""},
		{"the mirror in the image directory", []string{"i/" + image}, "i", "i/mirror", ""},
		{"no image directory", nil, "i", "m", "no such file"},
		{"the image directory is a file", []string{"i=x"}, "i", "m", "not a directory"},
		{"the mirror is a file", []string{"i/" + image, "m=x"}, "i", "m", "not a directory"},
		{"one directory", []string{"i/" + image}, "i", "i", "is inside the mirror"},
		{"the image directory in the mirror", []string{"m/i/" + image}, "m/i", "m", "is inside the mirror"},
		{"a mirror in a mirror", []string{"i/" + image, "m/.repo/"}, "i", "m/a/b", "is inside another mirror"},
		{"swapped", []string{"m/.repo/", "m/" + image, "i/" + image}, "m", "i", "m (it has .repo); did you swap the two?"},
		{"swapped, a copy of a mirror", []string{"m/" + image, "i/" + image, "m/CKSUMS=1 2 " + image + "\n"}, "m", "i", "its CKSUMS names its images"},
		{"swapped, no CKSUMS", []string{"m/" + image, "i/" + image, "m/" + index}, "m", "i", "its index.json names its images"},
		{"swapped, the default mirror", []string{"i/" + image, "i/.repo/"}, "i", "i/mirror", "it has .repo"},
		{"checksums of something else", []string{"i/" + image, "i/CKSUMS=1 2 README\n", "i/README"}, "i", "m", ""},
		{"checksums of images that are elsewhere", []string{"i/" + image, "i/CKSUMS=1 2 os-2029-01-01-000000-amd64.img\n"}, "i", "m", ""},
		{"lists that are none", []string{"i/" + image, "i/CKSUMS/", "i/index.json=[]"}, "i", "m", ""},
	} {
		dir := t.TempDir()
		makeFiles(t, dir, c.files...)
		err := Check(filepath.Join(dir, c.images), filepath.Join(dir, c.mirror))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		if swapped := strings.HasPrefix(c.name, "swapped"); errors.Is(err, ErrSwapped) != swapped {
			t.Errorf("%s: %v is ErrSwapped: %v", c.name, err, !swapped)
		}
	}
}

// Lists that are no files, or far too large, are not waited at nor read.
func TestOddLists(t *testing.T) {
	for _, list := range []string{"CKSUMS", "index.json"} {
		for _, kind := range append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}) {
			dir := t.TempDir()
			makeFiles(t, dir, "i/"+image)
			t.Chdir(filepath.Join(dir, "i")) // the path of a socket is short
			if err := kind.Make(list); err != nil {
				t.Fatal(err)
			}
			testdata.Promptly(t, kind.Name, func() {
				used := testdata.Allocated(func() {
					if err := Check(filepath.Join(dir, "i"), filepath.Join(dir, "m")); err != nil {
						t.Errorf("%s is %s: %v", list, kind.Name, err)
					}
				})
				if used > 1<<20 {
					t.Errorf("%s is %s: it takes %d bytes of memory", list, kind.Name, used)
				}
			})
		}
	}
}

// A way out is told only where the other directory is not that of the images, and its
// commands remove what a swapped run has left, and nothing else.
func TestWayOut(t *testing.T) {
	polluted := []string{"i/" + image, "i/.repo/state/a.rdiff.json", "i/.repo/state/b.rdiff.json", "i/.repo/state/s.json.json",
		"i/rdiffs/a.rdiff", "i/rdiffs/b.rdiff", "i/rdiffs/SHA256SUMS", "i/meta/s.json", "i/meta/SHA256SUMS", "i/index.json", "i/CKSUMS", "i/SHA256SUMS", "i/tuf/x"}
	for _, c := range []struct {
		name  string
		files []string
		says  string
		left  string
	}{
		{"the mirror is there", []string{"m/.repo/", "m/" + image}, "/i/rdiffs/*.rdiff\n", image},
		{"no mirror", nil, "/i/rdiffs/*.rdiff\n", image},
		{"others' files", []string{"i/rdiffs/own", "i/meta/own.json"}, "/i/rdiffs/a.rdiff ", "meta/own.json " + image + " rdiffs/own"},
		{"swapped now", []string{"m/" + image}, "", ""},
	} {
		dir := filepath.Join(t.TempDir(), "it's here")
		makeFiles(t, dir, append(c.files, polluted...)...)
		err := Check(filepath.Join(dir, "i"), filepath.Join(dir, "m"))
		if !errors.Is(err, ErrSwapped) {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, commands, told := strings.Cut(err.Error(), ":\n")
		if told != (c.says != "") || !strings.Contains(strings.ReplaceAll(commands, "'", ""), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !told {
			continue
		}
		if out, err := exec.Command("sh", "-c", commands).CombinedOutput(); (err == nil) != (len(c.files) == 0 || c.name == "the mirror is there") && !strings.Contains(string(out), "not empty") {
			t.Errorf("%s: %v: %s", c.name, err, out)
		}
		var left []string
		filepath.WalkDir(filepath.Join(dir, "i"), func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				name, _ := filepath.Rel(filepath.Join(dir, "i"), p)
				left = append(left, name)
			}
			return err
		})
		if got := strings.Join(left, " "); got != c.left {
			t.Errorf("%s: left are %q, want %q, after\n%s", c.name, got, c.left, commands)
		}
	}
}
