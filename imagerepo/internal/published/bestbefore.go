package published

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// KeepBestBefore says whether Write keeps the file in SHA256SUMS that says until when the
// mirror may be believed. It is kept if nothing is said.
func (d *Documents) KeepBestBefore(keep bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropBestBefore = !keep
}

// WriteBestBefore writes the file that says until when the mirror may be believed, by the
// timestamp that it has, and removes any other; all, if there must be none. Call it after
// Write, when the mirror is signed. It reports whether anything changed. It is an error if the
// mirror has no timestamp.
func (d *Documents) WriteBestBefore(ctx context.Context, known *ledger.Ledger, want bool) (changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	day := ""
	if want {
		if day, err = dayOf(d.dir); err != nil {
			return false, err
		}
	}
	b := &renewal{dir: d.dir, known: known, want: day, before: d.bestBefore}
	if err = b.write(ctx); err != nil {
		return b.changed, err
	}
	d.bestBefore = nil
	if want {
		d.bestBefore = []cksum.SHA256Line{emptyFile(day)}
	}
	return b.changed, nil
}

// RenewBestBefore does what WriteBestBefore does, in a mirror whose documents stay, if its
// SHA256SUMS says until when it may be believed. The caller holds the lock of the mirror.
func RenewBestBefore(ctx context.Context, dir atomicfile.Dir, records *state.Dir) error {
	lines, err := rootLines(dir)
	if err != nil || !slices.ContainsFunc(lines, func(l cksum.SHA256Line) bool { return mirror.IsBestBefore(l.Path) }) {
		return err
	}
	known, _, err := ledger.Load(records)
	if err != nil {
		return err
	}
	day, err := dayOf(dir)
	if err != nil {
		return err
	}
	return (&renewal{dir: dir, known: known, want: day}).write(ctx)
}

// dayOf returns the name of the file for the timestamp of a mirror.
func dayOf(dir atomicfile.Dir) (name string, err error) {
	const file = tuf.Dir + "/timestamp.json"
	data, err := readDocument(dir, file)
	if err != nil {
		return "", err
	}
	if data == nil {
		return "", fmt.Errorf("%s: the mirror is not signed, so it has no expiry date; sign it", file)
	}
	var doc struct {
		Signed struct {
			Expires time.Time `json:"expires"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", fmt.Errorf("%s: %w; sign the mirror again", file, meta.PlainJSON(err))
	}
	if name = mirror.BestBefore + doc.Signed.Expires.UTC().Format(time.DateOnly); !mirror.IsBestBefore(name) || doc.Signed.Expires.IsZero() {
		return "", fmt.Errorf("%s: its expiry date is out of range; sign the mirror again", file)
	}
	return name, nil
}

// rootLines returns the lines of the root's SHA256SUMS, none if that is missing or malformed:
// verify reports it, and a build writes it again.
func rootLines(dir atomicfile.Dir) ([]cksum.SHA256Line, error) {
	data, err := readDocument(dir, mirror.SHA256)
	lines, _ := mirror.ParseList(mirror.SHA256, data)
	return lines, err
}

// emptyFile returns the line of an empty file.
func emptyFile(name string) cksum.SHA256Line {
	return cksum.SHA256Line{SHA256: digestsOf(nil).SHA256, Path: name}
}

// renewal writes one file and removes those before.
type renewal struct {
	dir     atomicfile.Dir
	known   *ledger.Ledger
	want    string             // the name of the file, "" for none
	before  []cksum.SHA256Line // of files that SHA256SUMS has named, and may no longer name
	changed bool
}

// write makes the file that is wanted the only one.
func (r *renewal) write(ctx context.Context) error {
	lines, err := rootLines(r.dir)
	if err != nil {
		return err
	}
	old := make(map[string]bool) // those that are the tool's own
	for _, name := range r.known.Names() {
		old[name] = mirror.IsBestBefore(name)
	}
	for _, l := range r.before {
		old[l.Path] = true
	}
	rest := slices.DeleteFunc(slices.Clone(lines), func(l cksum.SHA256Line) bool {
		old[l.Path] = old[l.Path] || mirror.IsBestBefore(l.Path)
		return mirror.IsBestBefore(l.Path)
	})
	if r.want != "" {
		if err := r.put(old[r.want]); err != nil {
			return err
		}
		rest = append(rest, emptyFile(r.want))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(lines) > 0 {
		if err := r.replace(mirror.SHA256, cksum.AppendSHA256SUMS(nil, rest)); err != nil {
			return err
		}
	}
	delete(old, r.want)
	maps.DeleteFunc(old, func(_ string, own bool) bool { return !own })
	return r.remove(slices.Sorted(maps.Keys(old)))
}

// put writes the file that is wanted. own says that it is the tool's own if it is there.
func (r *renewal) put(own bool) error {
	if !r.known.Has(r.want) {
		if free, err := r.replaceable(r.want); err != nil {
			return err
		} else if !free && !own {
			return fmt.Errorf("%s: this tool did not write this file; move it away", r.want)
		}
		if err := r.known.Put(r.want, new(state.Record)); err != nil {
			return err
		}
	}
	return r.replace(r.want, nil)
}

// replaceable reports whether nothing is lost with the file of a name: it is empty, or not
// there, or recorded as the tool's own.
func (r *renewal) replaceable(name string) (bool, error) {
	info, err := r.dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && info.Mode().IsRegular() && (info.Size() == 0 || r.known.Has(name)), err
}

func (r *renewal) replace(name string, data []byte) error {
	written, err := r.dir.Replace(mirror.TmpPath(name), name, data)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	r.changed = r.changed || written
	return nil
}

// remove removes files that SHA256SUMS no longer names, and then their records.
func (r *renewal) remove(old []string) error {
	if len(old) == 0 {
		return nil
	}
	for _, name := range old {
		free, err := r.replaceable(name)
		if err == nil && free {
			err = r.dir.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
		r.changed = true
	}
	if err := r.dir.SyncDir("."); err != nil {
		return err
	}
	for _, name := range old {
		if err := r.known.Delete(name); err != nil {
			return err
		}
	}
	return nil
}
