package loopdev

import (
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"
)

func TestBackingFiles(t *testing.T) {
	d := Devices{
		Blocks: fstest.MapFS{
			"sda/size":                {Data: []byte("1\n")},
			"dm-0/loop/backing_file":  {Data: []byte("/no/loop\n")},
			"loop0/loop/backing_file": {Data: []byte("/a.img\n")},
			"loop1/size":              {Data: []byte("0\n")}, // of nothing
			"loop2/loop/backing_file": {Data: []byte("/b.img (deleted)\n")},
		},
		Inode: func(device string) (Inode, error) {
			if device != "loop2" {
				return Inode{}, fs.ErrPermission
			}
			return Inode{1, 2}, nil
		},
	}
	want := []BackingFile{{Path: "/a.img"}, {Path: "/b.img", Inode: Inode{1, 2}}}
	if got := d.BackingFiles(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Whatever loop devices this machine has, they can be listed.
func TestLocal(t *testing.T) {
	for _, f := range Local().BackingFiles() {
		if f.Path == "" {
			t.Errorf("%+v has no path", f)
		}
	}
}
