package source

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// The images that most tests here speak of, oldest first.
const (
	image1 = "puavo-os-amxa-buster-2021-04-13-192449-amd64.img"
	image2 = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	image3 = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	image4 = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	other  = "puavo-os-free-buster-2022-02-04-140532-amd64.img"
)

func name(s string) meta.Name {
	n, err := meta.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// files returns a directory of files with their names as content.
func files(list ...string) fstest.MapFS {
	dir := make(fstest.MapFS)
	for _, f := range list {
		dir[f] = &fstest.MapFile{Data: []byte(f)}
	}
	return dir
}

func TestScan(t *testing.T) {
	empty := files(image1, image2)
	empty[image2].Data = nil
	folder := files(image1)
	folder[image2] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for _, c := range []struct {
		name    string
		dir     fs.FS
		want    string // images
		skipped string // each reason says one of these
		err     error
	}{
		{"images", files(image2, image1, other), image1 + " " + image2 + " " + other, "", nil},
		{"others are not our concern", files(image1, "README", "mirror/"+image2, image1+".sha256"), image1, "", nil},
		{"odd names", files(image1, "puavo.img", "x y-2021-04-13-192449-amd64.img"), image1, "puavo.img x y", nil},
		{"default links", files(image1, "ltsp.img", "ltsp-backup.img"), image1, "", nil},
		{"a folder with an image's name", folder, image1, "not a regular file", nil},
		{"no images", files("README"), "", "", plan.ErrInput},
		{"only odd names", files("puavo.img"), "", "puavo.img", plan.ErrInput},
		{"only a default link", files("ltsp.img"), "", "", plan.ErrInput},
		{"an empty image", empty, image1, "", nil},
		{"no directory", brokenFS{}, "", "", errBroken},
	} {
		found, err := Scan(c.dir)
		skipped := found.Skipped
		if reason := found.Unusable[name(image2)]; (reason != nil) != (c.name == "an empty image") || reason != nil && !errors.Is(reason, plan.ErrInput) {
			t.Errorf("%s: unusable: %v", c.name, reason)
		}
		var got []string
		for _, n := range found.Names() {
			stamp, usable := found.Images[n]
			if !usable {
				continue
			}
			got = append(got, n.String())
			if stamp.Size != int64(len(n.String())) {
				t.Errorf("%s: %s has size %d", c.name, n, stamp.Size)
			}
		}
		if strings.Join(got, " ") != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		for _, reason := range skipped {
			first := strings.Fields(strings.Trim(reason.Error(), `"`))[0]
			if !strings.Contains(c.skipped, strings.Trim(first, `"`)) && !strings.Contains(reason.Error(), c.skipped) {
				t.Errorf("%s: skipped %v", c.name, reason)
			}
		}
		if (len(skipped) > 0) != (c.skipped != "") {
			t.Errorf("%s: skipped %v, want %q", c.name, skipped, c.skipped)
		}
	}
}

var errBroken = errors.New("broken")

type brokenFS struct{}

func (brokenFS) Open(string) (fs.File, error) { return nil, errBroken }
