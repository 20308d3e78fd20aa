package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"puavo-image-repository/testdata"
)

// An image is opened, through a link too. What has taken its place and is no regular file
// is not waited at.
func TestOpenImage(t *testing.T) {
	dir := write(t, image1)
	t.Chdir(dir) // the path of a socket is short
	if err := os.Symlink(image1, image2); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{image1, image2} {
		f, err := d.Open(name(image))
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(f); string(data) != image1 || err != nil {
			t.Errorf("%s holds %q, %v", image, data, err)
		}
		f.Close()
	}
	for _, kind := range testdata.OddFiles(t) {
		if err := os.Remove(image1); err != nil {
			t.Fatal(err)
		}
		if err := kind.Make(image1); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			_, err := d.Open(name(image1))
			if _, isPath := errors.AsType[*fs.PathError](err); !errors.Is(err, ErrChanged) && !isPath {
				t.Errorf("%s: %v", kind.Name, err)
			}
		})
	}
}
