package testdata

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The images that the fixtures of before/ are about. The README says what is in
// those that are not in images/.
const (
	beforeSecond = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	beforeThird  = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	beforeFourth = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	beforeLong1  = "puavo-os-long-buster-2022-03-01-000000-amd64.img"
	beforeLong2  = "puavo-os-long-buster-2022-03-02-000000-amd64.img"
	beforeLong3  = "puavo-os-long-buster-2022-03-03-000000-amd64.img"
	beforeTried  = "puavo-os-test-buster-2022-02-28-000000-amd64.img"

	// beforeMade is how much of an image was made when the update was interrupted.
	beforeMade = 1 << 20
)

// beforeParts are the fixtures that an image is joined from.
var beforeParts = map[string][]string{
	beforeSecond: {"images/" + beforeSecond},
	beforeThird:  {"images/" + beforeThird},
	beforeFourth: {"images/" + beforeFourth},
	beforeLong1: {"images/" + beforeThird, "images/" + beforeFourth,
		"compression/puavo-os-lzo-buster-2022-02-04-140532-amd64.img"},
	beforeLong2: {"images/" + beforeThird, "images/" + beforeFourth, "images/" + beforeFourth},
	beforeLong3: {"images/" + beforeThird, "images/" + beforeFourth, "images/" + beforeFourth,
		"compression/puavo-os-gzip-buster-2022-02-04-140532-amd64.img"},
	beforeTried: {"images/" + beforeThird, "images/" + beforeFourth},
}

// beforeFiles are the images of a fixture, each with all the names that it has.
var beforeFiles = map[string][][]string{
	"mirror": {
		{"puavo-os-images/" + beforeSecond, "mirror/" + beforeSecond},
		{"puavo-os-images/" + beforeThird, "mirror/" + beforeThird},
		{"puavo-os-images/" + beforeFourth, "mirror/" + beforeFourth},
		{"mirror/" + beforeLong1},                                     // it left the image directory
		{"puavo-os-images/" + beforeLong2}, {"mirror/" + beforeLong2}, // it could not be linked
		{"puavo-os-images/" + beforeLong3, "mirror/" + beforeLong3},
		{"puavo-os-images/" + beforeTried}, // it is a base only
	},
	"client": {
		{"client/" + beforeThird, "client/ltsp-backup.img"},
		{"client/" + beforeFourth, "client/ltsp.img"},
	},
	"interrupted": {
		{"interrupted/" + beforeLong2, "interrupted/ltsp.img"},
		{"interrupted/" + beforeLong3 + ".tmp"},
	},
	"keys": nil,
}

// Before lays out a fixture of before/ in a directory, under its name: the mirror,
// the keys, or the images directories client and interrupted. The images are put
// there, for the mirror also its image directory, puavo-os-images beside it; and
// what the program remembered of files, and of that directory, holds of these.
func Before(t testing.TB, name, dir string) {
	t.Helper()
	images, ok := beforeFiles[name]
	if !ok {
		t.Fatalf("no fixture before/%s can be laid out", name)
	}
	if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(Path("before/"+name))); err != nil {
		t.Fatal(err)
	}
	for _, names := range images {
		if err := placeImage(dir, names, BeforeImage(t, path.Base(names[0]))); err != nil {
			t.Fatal(err)
		}
	}
	if name == "keys" {
		closeKeys(t, filepath.Join(dir, name))
	}
	restampAll(t, name, dir)
}

// BeforeImage returns an image that the fixtures of before/ are about, or with .tmp
// behind its name what was made of it when the update was interrupted.
func BeforeImage(t testing.TB, name string) []byte {
	t.Helper()
	image, begun := strings.CutSuffix(name, ".tmp")
	var data []byte
	for _, part := range beforeParts[image] {
		data = append(data, Read(t, part)...)
	}
	if len(data) == 0 {
		t.Fatalf("before/ has nothing of %s", image)
	}
	if begun {
		data = data[:beforeMade]
	}
	return data
}

// placeImage writes a file in a directory, and links its other names to it.
func placeImage(dir string, names []string, data []byte) error {
	first := filepath.Join(dir, filepath.FromSlash(names[0]))
	err := errors.Join(os.MkdirAll(filepath.Dir(first), 0o777), os.WriteFile(first, data, 0o666))
	for _, name := range names[1:] {
		err = errors.Join(err, os.Link(first, filepath.Join(dir, filepath.FromSlash(name))))
	}
	return err
}

// closeKeys gives a keys directory the modes that it is made with.
func closeKeys(t testing.TB, dir string) {
	t.Helper()
	private, err := filepath.Glob(filepath.Join(dir, "*.key"))
	err = errors.Join(err, os.Chmod(dir, 0o700))
	for _, file := range append(private, filepath.Join(dir, ".lock")) {
		err = errors.Join(err, os.Chmod(file, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restampAll has what a laid fixture remembers of files hold of these as they are now:
// it replaces their times and inodes there, and nothing else.
func restampAll(t testing.TB, name, dir string) {
	t.Helper()
	var err error
	switch name {
	case "mirror":
		err = restampMirror(dir)
	case "client", "interrupted":
		err = restampClient(filepath.Join(dir, name))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restampMirror restamps the records of the mirror, of which the stamp is that of
// the image in the image directory if it is there, and the copy that in the mirror.
func restampMirror(dir string) error {
	mirror, images := filepath.Join(dir, "mirror"), filepath.Join(dir, "puavo-os-images")
	if err := moveImages(filepath.Join(mirror, ".repo/run.json"), images); err != nil {
		return err
	}
	records, err := filepath.Glob(filepath.Join(mirror, ".repo/state/*.json"))
	for _, record := range records {
		file := strings.TrimSuffix(filepath.Base(record), ".json")
		places := []string{filepath.Join(images, file), filepath.Join(mirror, file), filepath.Join(mirror, "rdiffs", file)}
		err = errors.Join(err, restamp(record, `"stamp":`, places...), restamp(record, `"copy":`, places[1:]...))
	}
	return err
}

// moveImages replaces, in the note of the last run, where the images were.
func moveImages(run, images string) error {
	text, err := os.ReadFile(run)
	if err != nil {
		return err
	}
	before := regexp.MustCompile(`"image_dir": "[^"]*"`)
	return os.WriteFile(run, before.ReplaceAllLiteral(text, fmt.Appendf(nil, `"image_dir": %q`, images)), 0o666)
}

func restampClient(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, restamp(filepath.Join(dir, ".image_updates_known"), strconv.Quote(e.Name())+":", filepath.Join(dir, e.Name())))
	}
	return err
}

// restamp replaces, in a file with JSON in one line, the times and the inode of the
// member that begins with key, if there is one, by those of the first of the places
// that is there.
func restamp(file, key string, places ...string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	stamp := regexp.MustCompile(regexp.QuoteMeta(key) + `\{"size":\d+,"mtime":\d+,("ctime":\d+,)?"inode":\d+`)
	old := stamp.Find(text)
	if old == nil {
		return nil
	}
	info, err := firstOf(places)
	if err != nil {
		return err
	}
	now := old
	for member, value := range map[string]uint64{
		"mtime": uint64(info.Mtim.Nano()), "ctime": uint64(info.Ctim.Nano()), "inode": info.Ino,
	} {
		now = regexp.MustCompile(`"`+member+`":\d+`).ReplaceAll(now, fmt.Appendf(nil, `"%s":%d`, member, value))
	}
	return os.WriteFile(file, bytes.Replace(text, old, now, 1), 0o666)
}

// firstOf returns what the system tells of the first of the files that is there.
func firstOf(files []string) (syscall.Stat_t, error) {
	for _, file := range files {
		var info syscall.Stat_t
		if err := syscall.Lstat(file, &info); !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
	}
	return syscall.Stat_t{}, fs.ErrNotExist
}

// BeforeCommands returns the arguments of the command lines of before/ that call a
// command. Their paths lead below a directory, to where nothing is.
func BeforeCommands(t testing.TB, command, dir string) (all [][]string) {
	t.Helper()
	inDir := regexp.MustCompile(`^/|=/|file:///`)
	for line := range strings.Lines(string(Read(t, "before/cmdlines.txt"))) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != command {
			continue
		}
		for i, word := range words {
			words[i] = inDir.ReplaceAllStringFunc(word, func(root string) string {
				return strings.TrimSuffix(root, "/") + dir + "/none/"
			})
		}
		all = append(all, words[1:])
	}
	return all
}
