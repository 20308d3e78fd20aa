package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

func TestLocked(t *testing.T) {
	p := newPlace(t, image3)
	before := p.files()
	lock, err := lockfile.Acquire(p.dir, lockFile)
	if err != nil {
		t.Fatal(err)
	}
	mirror := access["directory"](t, "all")
	if _, err := p.update(mirror, ""); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("while another holds the lock: %v", err)
	}
	p.want(before)
	lock.Release()
	if _, err := p.update(mirror, ""); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// On a disk that gets full at any point all is as it was, no other way is tried,
// and with room the next run ends as any.
func TestFullDisk(t *testing.T) {
	for size := 340 << 10; size < 660<<10; size += 64 << 10 {
		disk := testdata.SmallDisk(t, size)
		p := newPlaceIn(t, disk, image3)
		want := p.files()
		s := newSite(t, "all", nil)
		_, err := p.update(s.URL, "")
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room in "+disk) {
			t.Errorf("on a disk of %d bytes: %v", size, err)
		}
		p.want(want)
		if asked := s.asked(); slices.Contains(asked, image4) {
			t.Errorf("on a disk of %d bytes: fetched %q", size, asked)
		}
		if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=16m"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.update(s.URL, ""); err != nil {
			t.Errorf("with room: %v", err)
		}
		want[image4] = imageText(image4)
		p.want(want)
	}
}

// A run that is cancelled when any of the bytes are made, the last too, says so,
// leaves the images as they were, and at most what the next can go on with.
func TestCancelled(t *testing.T) {
	for way, open := range access {
		for _, have := range [][]string{{big1}, nil} {
			t.Run(fmt.Sprintf("%s/%d", way, len(have)), func(t *testing.T) {
				mirror := open(t, "big")
				p := newPlace(t, have...)
				before := p.files()
				for _, percent := range []int64{-1, 0, 30, 60, 100} {
					if err := p.cancelled(mirror, percent); err != context.Canceled {
						t.Errorf("at %d %%: %v", percent, err)
					}
					p.wantImages(maps.Clone(before))
				}
				if _, err := p.update(mirror, big2); err != nil {
					t.Fatal(err)
				}
				if err := p.cancelled(mirror, -1); err != context.Canceled {
					t.Errorf("where nothing is to be done: %v", err)
				}
			})
		}
	}
}

// cancelled is an update to big2 that is cancelled when more than so much of it
// is made, or all, and for -1 before it begins.
func (p *place) cancelled(mirror string, percent int64) error {
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	o := p.options(mirror, big2)
	o.Progress = func(done, total int64) {
		if done == total || percent < 100 && done*100 > total*percent {
			cancel()
		}
	}
	if percent < 0 {
		cancel()
	}
	_, err := client.Update(ctx, o)
	return err
}

// Nor does a run that is cancelled while it waits for a site try another way.
func TestCancelledAtRequest(t *testing.T) {
	for _, at := range []string{series, "index.json", "meta/a-first.json", "meta/release.json", deltaFile(image2, image4)} {
		ctx, cancel := context.WithCancel(t.Context())
		s := newSite(t, "named", func(path string) fault {
			if path == at {
				cancel()
			}
			return nil
		})
		p := newPlace(t, image2)
		before := p.files()
		if _, err := client.Update(ctx, p.options(s.URL, "")); !errors.Is(err, context.Canceled) {
			t.Errorf("at %s: %v", at, err)
		}
		p.want(before)
		if asked := s.asked(); asked[len(asked)-1] != at || p.log.Len() > 0 {
			t.Errorf("at %s: asked for %q, warnings %q", at, asked, &p.log)
		}
		cancel()
	}
}
