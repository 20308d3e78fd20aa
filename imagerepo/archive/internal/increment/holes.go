package increment

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// holes finds what a file has no blocks for, which reads as zeros. Ranges are asked for from
// the start to the end.
type holes struct {
	f          *os.File
	size       int64
	start, end int64 // a range without a block, before data or the end
	known      int64 // up to where they are known
}

// all reports whether nothing of a range has a block. It moves the place of the file's Read.
func (h *holes) all(off, n int64) (bool, error) {
	if off < h.start || off >= h.known {
		data, err := unix.Seek(int(h.f.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // only holes follow
			data = h.size
		case errors.Is(err, unix.EINVAL): // the file system does not know
			data = off
		case err != nil:
			return false, &os.PathError{Op: "seek", Path: h.f.Name(), Err: err}
		}
		h.start, h.end, h.known = off, data, max(data, off+1)
	}
	return off >= h.start && off+n <= h.end, nil
}
