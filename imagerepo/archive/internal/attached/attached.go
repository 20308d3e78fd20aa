// Package attached keeps files and the log of each backup of a guest.
//
//	<version>/          the log, and the files that were attached
//	<version>.part/     the same while the backup runs
//	<version>.failed/   the log of a backup that failed, or was killed
package attached

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"
)

// Log is the name of the log.
const Log = "log"

const (
	part   = ".part"
	failed = ".failed"
)

// maxFile bounds files that are attached, in bytes; maxFiles their number.
const (
	maxFile  = 64 << 20
	maxFiles = 100
)

// failedFor is how long the log of a failed backup is kept.
const failedFor = 30 * 24 * time.Hour

// Record is that of a backup that runs. It is not for concurrent use.
type Record struct {
	dir     atomicfile.Dir
	version string
	log     *atomicfile.File
	now     func() time.Time
}

// Check returns an error if files cannot be attached.
func Check(files []string) error {
	if len(files) > maxFiles {
		return fmt.Errorf("%d files are attached, and %d are allowed", len(files), maxFiles)
	}
	var seen []string
	for _, file := range files {
		name := filepath.Base(file)
		if name == Log || name == "." || name == "/" || strings.HasPrefix(name, ".") || slices.Contains(seen, name) {
			return fmt.Errorf("%s cannot be attached: its name is hidden, %s, or that of another", untrusted.Quote(file), Log)
		}
		seen = append(seen, name)
	}
	return nil
}

// Begin begins the record of a backup in the directory of its guest, which it does not close.
// Whoever calls it calls Keep or Fail.
func Begin(dir atomicfile.Dir, version string, now func() time.Time) (*Record, error) {
	if err := dir.RemoveAll(version + part); err != nil {
		return nil, err
	}
	if err := dir.Mkdir(version+part, 0o777); err != nil {
		return nil, err
	}
	name := version + part + "/" + Log
	f, err := dir.Begin(name, name)
	if err != nil {
		return nil, errors.Join(err, dir.RemoveAll(version+part))
	}
	return &Record{dir, version, f, now}, nil
}

// Logf writes a line to the log. What is wrong with the log is reported by Keep.
func (r *Record) Logf(format string, args ...any) {
	line := strings.ReplaceAll(untrusted.ShowLines(fmt.Sprintf(format, args...)), "\n", "\n\t")
	fmt.Fprintf(r.log, "%s %s\n", r.now().UTC().Format(time.RFC3339), line)
}

// Attach copies a regular file.
func (r *Record) Attach(ctx context.Context, file string) error {
	data, err := untrusted.ReadFile(ctx, file, maxFile)
	if err != nil {
		return fmt.Errorf("attaching: %w", err)
	}
	name := r.version + part + "/" + filepath.Base(file)
	f, err := r.dir.Begin(name, name)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := io.Copy(f, bytes.NewReader(data)); err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Keep()) // settings of a guest may hold passwords
}

// Keep ends the record of a backup that succeeded.
func (r *Record) Keep() error {
	if err := errors.Join(r.log.Sync(), r.log.Keep(), r.dir.SyncDir(r.version+part)); err != nil {
		return err
	}
	return errors.Join(r.dir.Rename(r.version+part, r.version), r.dir.SyncDir("."))
}

// Fail ends the record of a backup that failed, for a reason, also after Keep: nothing but the
// log stays.
func (r *Record) Fail(reason error) error {
	from := r.version + part
	if _, err := r.dir.Lstat(from); err != nil {
		from = r.version
		r.reopen(from + "/" + Log)
	}
	r.Logf("failed: %v", reason)
	r.log.Sync()
	r.log.Keep()
	return fail(r.dir, r.version, from)
}

// reopen opens the log again. Without it the reason is not in it.
func (r *Record) reopen(name string) {
	info, err := r.dir.Lstat(name)
	if err != nil {
		return
	}
	f, err := r.dir.Resume(name, name, info.Size())
	if err != nil {
		return
	}
	r.log = f
	f.Truncate(info.Size()) // writing goes on there
}

// fail leaves only the log of a directory, under the name that failed ones have.
func fail(dir atomicfile.Dir, version, from string) error {
	entries, err := fs.ReadDir(dir.FS(), from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != Log {
			if err := dir.RemoveAll(from + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if err := dir.RemoveAll(version + failed); err != nil {
		return err
	}
	return errors.Join(dir.Rename(from, version+failed), dir.SyncDir("."))
}

// Settle ends the records of backups that were killed. newest is the newest version of the
// guest, "" for none. No backup of the guest may run.
func Settle(dir atomicfile.Dir, newest string) error {
	return each(dir, func(version, suffix string) error {
		if suffix == part || suffix == "" && version > newest {
			return fail(dir, version, version+suffix)
		}
		return nil
	})
}

// Collect removes what is attached to versions that are gone, and old logs of failed ones. No
// backup of the guest may run, and Settle comes before.
func Collect(dir atomicfile.Dir, has func(version string) bool, now time.Time) error {
	return each(dir, func(version, suffix string) error {
		at, err := time.Parse(catalog.Layout, version)
		if err == nil && (suffix == "" && !has(version) || suffix == failed && now.Sub(at) > failedFor) {
			return dir.RemoveAll(version + suffix)
		}
		return nil
	})
}

// each calls do with the records of a directory.
func each(dir atomicfile.Dir, do func(version, suffix string) error) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		version, suffix := e.Name(), ""
		for _, s := range []string{part, failed} {
			if before, ok := strings.CutSuffix(e.Name(), s); ok {
				version, suffix = before, s
			}
		}
		if _, err := catalog.ParseVersion(version); err == nil && e.IsDir() {
			if err := do(version, suffix); err != nil {
				return err
			}
		}
	}
	return nil
}
