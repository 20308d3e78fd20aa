package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
)

// findOrphans reports all that is in the mirror and that no document names.
func (v *verifier) findOrphans(ctx context.Context) error {
	return fs.WalkDir(v.mirror.Root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && p == ".":
			return fmt.Errorf("the mirror: %w", err)
		case errors.Is(err, fs.ErrNotExist):
			return nil // it was removed just now
		case err != nil:
			// Files in it that documents name are reported by themselves.
			v.found.add(p, Note, "it cannot be looked into: "+err.Error())
			return fs.SkipDir
		case d.IsDir():
			return v.enter(p)
		case p != mirror.Private && v.files[p] == nil:
			v.orphan(p)
		}
		return nil
	})
}

// enter skips directories in which no orphans are looked for: signed metadata is for
// package trust.
func (v *verifier) enter(p string) error {
	switch p {
	case mirror.Private, mirror.TUF:
		return fs.SkipDir
	case ".checksums", ".signatures":
		v.found.add(p, Note, "a directory of the predecessor; nothing uses it any more")
		return fs.SkipDir
	}
	return nil
}

const nothingNames = "nothing names it"

// orphan reports a file that no document names.
func (v *verifier) orphan(p string) {
	record := v.record(p)
	_, ours := ourName(p)
	switch {
	case record != nil && record.Orphaned != 0:
		since := time.Unix(record.Orphaned, 0).UTC().Format(time.DateTime)
		v.found.add(p, Waiting, "nothing names it since "+since+" UTC; it waits for its removal")
	case !ours:
		v.found.add(p, Orphan, nothingNames)
	case !v.unknown:
		v.orphans = append(v.orphans, p)
	}
}
