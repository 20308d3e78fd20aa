package sharing

import (
	"errors"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

// A pipe that has taken the place of a file to which no link can be made is not waited
// at.
func TestPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := testdata.PutOdd("pipe", pipe); err != nil {
		t.Fatal(err)
	}
	d, err := atomicfile.Open(testdata.SmallDisk(t, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	testdata.Promptly(t, "a pipe", func() {
		if got, err := Share(d, pipe, "tmp"); !errors.Is(err, atomicfile.ErrNotRegular) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
