package client_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

func file(size int64) meta.File { return meta.File{Sums: cksum.Sums{Size: size}} }

func TestRoutes(t *testing.T) {
	diff := func(base string, size int64) meta.Diff { return meta.Diff{File: file(size), Base: name(base)} }
	local := func(image string, size int64) client.LocalImage {
		return client.LocalImage{Name: name(image), Size: size}
	}
	images := []meta.Image{{Name: name(image1), File: file(100)}, {Name: name(image2), File: file(200)}, {Name: name(image3), File: file(300)}}
	for _, c := range []struct {
		name  string
		diffs []meta.Diff
		local []client.LocalImage
		want  []string // in bytes, what it starts from
	}{
		{"nothing there", []meta.Diff{diff(image1, 10)}, nil, nil},
		{"no deltas", nil, []client.LocalImage{local(image1, 100)}, nil},
		{"one", []meta.Diff{diff(image1, 10)}, []client.LocalImage{local(image1, 100)}, []string{"10 " + image1}},
		{"of several the one that is there", []meta.Diff{diff(image1, 10), diff(image2, 20)}, []client.LocalImage{local(image2, 200), local(image3, 300)}, []string{"20 " + image2}},
		{"by bytes, not by age", []meta.Diff{diff(image1, 20), diff(image2, 10), diff(image3, 15)},
			[]client.LocalImage{local(image1, 100), local(image2, 200), local(image3, 300)},
			[]string{"10 " + image2, "15 " + image3, "20 " + image1}},
		{"of equals the first", []meta.Diff{diff(image2, 10), diff(image1, 10)}, []client.LocalImage{local(image1, 100), local(image2, 200)}, []string{"10 " + image2, "10 " + image1}},
		{"a delta as large as the image", []meta.Diff{diff(image1, 1000), diff(image2, 999)}, []client.LocalImage{local(image1, 100), local(image2, 200)}, []string{"999 " + image2}},
		{"a delta larger than the image", []meta.Diff{diff(image1, 1001)}, []client.LocalImage{local(image1, 100)}, nil},
		{"a base of another size", []meta.Diff{diff(image1, 10), diff(image2, 20)}, []client.LocalImage{local(image1, 101), local(image2, 0)}, nil},
		{"a base of which the meta knows nothing", []meta.Diff{diff(other, 10)}, []client.LocalImage{local(other, 12345)}, []string{"10 " + other}},
	} {
		target := meta.Image{Name: name(image4), File: file(1000), Diffs: c.diffs}
		series := &meta.Series{Images: append(slices.Clone(images), target)}
		var got []string
		routes := client.Routes(series, &target, c.local)
		for i, r := range routes {
			if r.Target != &target || (r.Diff == nil) != (i == len(routes)-1) {
				t.Errorf("%s: way %d is %+v", c.name, i, r)
			} else if r.Diff != nil {
				got = append(got, fmt.Sprint(r.Bytes(), " ", r.Diff.Base))
			} else if r.Bytes() != 1000 || r.String() != fromFull {
				t.Errorf("%s: the last way is %s of %d bytes", c.name, r, r.Bytes())
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// brokenDir is a directory that cannot be read.
type brokenDir struct{}

func (brokenDir) Open(string) (fs.File, error) { return nil, fs.ErrPermission }

func TestLocal(t *testing.T) {
	f := func(size int) *fstest.MapFile { return &fstest.MapFile{Data: make([]byte, size)} }
	for _, c := range []struct {
		name string
		dir  fs.FS
		want []client.LocalImage
		err  error
	}{
		{"empty", fstest.MapFS{}, nil, nil},
		{"oldest first", fstest.MapFS{big1: f(4), other: f(1), image4: f(2), image1: f(3), image3: f(0)},
			[]client.LocalImage{{name(image1), 3}, {name(image3), 0}, {name(image4), 2}, {name(other), 1}, {name(big1), 4}}, nil},
		{"other names", fstest.MapFS{
			image1: f(1), image2 + ".tmp": f(1), image2 + ".torrent": f(1), "." + image2: f(1), "odd name.img": f(1),
			"ltsp-backup.img": f(1), "puavo-os-amxa-buster-2022-01-17-amd64.img": f(1), lockFile: f(0), deltaFile(image1, image2): f(1),
		}, []client.LocalImage{{name(image1), 1}}, nil},
		{"no files", fstest.MapFS{
			image1: f(1), image2: {Mode: fs.ModeSymlink, Data: []byte(image1)}, image3: {Mode: fs.ModeDir},
			image4: {Mode: fs.ModeNamedPipe}, "folder/" + other: f(1),
		}, []client.LocalImage{{name(image1), 1}}, nil},
		{"unreadable", brokenDir{}, nil, fs.ErrPermission},
	} {
		got, err := client.Local(c.dir)
		if !errors.Is(err, c.err) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, err, c.want, c.err)
		}
	}
}
