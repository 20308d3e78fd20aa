package client_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
)

// A fault of the images directory ends the run, says what to do, and is no fault of the
// delta: the full image is not asked for, and when the fault is gone, the delta is gone
// on with.
func TestLocalFault(t *testing.T) {
	for errno, says := range map[syscall.Errno]string{
		syscall.ENOSPC: "make room in ",
		syscall.EDQUOT: "raise the quota",
		syscall.EFBIG:  "does not allow files of this size",
		syscall.EIO:    "the disk of ",
		syscall.EROFS:  "is read-only; mount it",
		syscall.EACCES: "",
	} {
		for _, kind := range []atomicfile.Kind{atomicfile.Create, atomicfile.Write, atomicfile.Flush} {
			name := errno.Error() + ", " + string(kind)
			p, s := newPlace(t, big1), newSite(t, "big", nil)
			var fails atomic.Bool
			fails.Store(true)
			var writes atomic.Int64
			stop := atomicfile.Observe(p.dir, func(c atomicfile.Change) error {
				isPartial := filepath.Base(c.Name) == big2+".tmp"
				if !fails.Load() || !isPartial || c.Kind != kind || kind == atomicfile.Write && writes.Add(1) <= 1 {
					return nil
				}
				return errno
			})
			o := p.options(s.URL, big2)
			_, err := client.Update(t.Context(), o)
			if !errors.Is(err, errno) || !strings.Contains(err.Error(), says) || errors.Is(err, client.ErrVerify) || errors.Is(err, client.ErrIncomplete) {
				t.Errorf("%s: %v", name, err)
			}
			if asked := s.asked(); slices.Contains(asked, big2) {
				t.Errorf("%s: it asked for %q", name, asked)
			}
			p.wantImages(map[string]string{big1: imageText(big1)})
			fails.Store(false)
			before := len(s.asked())
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Errorf("%s: the next run: %v", name, err)
			}
			if asked := s.asked()[before:]; slices.Contains(asked, big2) {
				t.Errorf("%s: the next run asked for %q", name, asked)
			}
			stop()
		}
	}
}
