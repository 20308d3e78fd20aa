package imagerepo

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// odd has a version that is no date, which earlier versions took for one. It is that of
// image4, and as long.
const odd = "puavo-os-amxa-buster-2022-13-20-173248-amd64.img"

// oddly gives image4 the name odd, wherever that stands: as a version did that took it.
func (p *place) oddly() {
	p.t.Helper()
	rename := strings.NewReplacer("2022-01-20-173248", "2022-13-20-173248", "20220120173248", "20221320173248")
	change := func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if to := filepath.Join(filepath.Dir(path), rename.Replace(d.Name())); to != path {
			err = os.Rename(path, to)
			path = to
		}
		data, readErr := os.ReadFile(path)
		if filepath.Ext(path) != ".json" || err != nil || readErr != nil {
			return errors.Join(err, readErr)
		}
		if at := bytes.LastIndex(data, []byte(`,"check":"`)); strings.Contains(path, mirror.StateDir) && at >= 0 {
			data = append(data[:at:at], "}\n"...) // that is of the name
		}
		return os.WriteFile(path, []byte(rename.Replace(string(data))), 0o666)
	}
	lists := errors.Join(os.Remove(filepath.Join(p.MirrorDir, mirror.CKSUMS)), os.Remove(filepath.Join(p.MirrorDir, mirror.SHA256)))
	if err := errors.Join(lists, filepath.WalkDir(p.MirrorDir, change), filepath.WalkDir(p.ImageDir, change)); err != nil {
		p.t.Fatal(err)
	}
}

// An image whose version is no date is not taken any more. What an earlier version has
// published of it is no error: it leaves as an image does that left the image directory.
func TestVersionThatIsNoDate(t *testing.T) {
	p := newPlace(t, image2, image3, image4, other)
	p.build()
	p.oddly()
	p.valid()
	if _, ok := p.published(image4); ok {
		t.Fatal("published under the right name")
	}
	if _, err := Remembered(p.MirrorDir); err != nil {
		t.Error(err)
	}
	oddName, err := meta.ParseOldName(odd)
	if err != nil {
		t.Fatal(err)
	}
	s := p.build()
	delta := meta.DeltaPath("puavo-os-amxa-buster-2022-01-17-120001--2022-13-20-173248-amd64.rdiff")
	if s.Images != 3 || s.Made != 0 || s.Kept != 2 || s.Removed != 5 || p.there(odd) || p.there(delta) || p.there(mirror.SignaturePath(oddName)) {
		t.Errorf("%+v", s)
	}
	if says := `there is no month 13`; !strings.Contains(p.log.String(), says) {
		t.Errorf("want %q in %s", says, &p.log)
	}
}
