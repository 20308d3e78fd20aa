package imagerepo

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/internal/puavoconf"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// An image that this user may not read is no corrupt input, and the error says what to
// do, once.
func TestImageOfOthers(t *testing.T) {
	const advice = "permission denied; make it readable for user ID "
	for _, c := range []struct {
		name   string
		images []string
		change func(p *place)
		says   string
	}{
		{"the only series", []string{image3, image4}, func(*place) {}, `series "puavo-os-amxa-buster-amd64": open `},
		{"another is built", []string{image3, image4, other}, func(*place) {}, "1 of 2 series could not be built"},
		{"strict", []string{image3, image4, other}, func(p *place) { p.Strict = true }, "open "},
		{"another is corrupt", []string{image3, image4}, func(p *place) { p.write(other, nil) }, "2 of 2 series could not be built"},
	} {
		p := newPlace(t, c.images...)
		c.change(p)
		for dir := p.ImageDir; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(p.ImageDir, image4), 0); err != nil {
			t.Fatal(err)
		}
		testdata.AsNobody(func() {
			_, err := MakePlan(t.Context(), p.Options)
			if err == nil || errors.Is(err, plan.ErrInput) || !strings.HasPrefix(err.Error(), c.says) || strings.Count(err.Error(), image4+": "+advice) != 1 || strings.Contains(err.Error(), "check the permissions") {
				t.Errorf("%s: %v, want %q", c.name, err, c.says)
			}
		})
	}
}

// What of an error is the fault of what an image holds, and what of its disk.
func TestConfError(t *testing.T) {
	file := "/images/" + image4
	for _, c := range []struct {
		name    string
		err     error
		corrupt bool
		says    string
	}{
		{"a disk that fails", &fs.PathError{Op: "read", Path: file, Err: syscall.EIO}, false,
			"puavo-conf definitions: read " + file + ": input/output error; its disk is failing: copy or make the image again, on another disk"},
		{"cut off", errors.New("the squashfs is cut off"), true, "unusable input: " + file + ": puavo-conf definitions: the squashfs is cut off; copy or make the image again, or move it away"},
	} {
		f := newFailures(true, nil)
		f.imageDir = "/images"
		err := advise(f.tolerate(t.Context(), confError(file, c.err), name(image4)))
		if errors.Is(err, plan.ErrInput) != c.corrupt || !errors.Is(err, c.err) || !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	// The errors of reading an image come through.
	failing := &testdata.Failing{ReaderAt: strings.NewReader(string(testdata.Read(t, "images/"+image4))), At: 1, Hook: func() {}, Err: &fs.PathError{Op: "read", Path: file, Err: syscall.EIO}}
	_, err := puavoconf.Read(t.Context(), failing, int64(len(testdata.Read(t, "images/"+image4))))
	if err := confError(file, err); errors.Is(err, plan.ErrInput) || !errors.Is(err, syscall.EIO) {
		t.Errorf("a read that fails: %v", err)
	}
}
