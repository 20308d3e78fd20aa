package published

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/page"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// maxRoot bounds a root that the page describes, in bytes.
const maxRoot = 16 << 20

// Page says what becomes of index.html, the page for people. The zero Page leaves it
// alone.
//
// The page is the tool's own if its content is what the tool has written or was about to
// write, by its record, or what SHA256SUMS says, which a mirror without records has too.
// The sums of the record are those of the page that is being written, its Base the BLAKE3
// of the one before: a run that is killed leaves either. Any other file of that name, and
// what is no regular file, is somebody's: it stays, is reported once, and is not published.
type Page struct {
	Omit   bool           // there must be none
	Root   *page.Root     // that will sign the mirror; nil: the newest one that the mirror has
	Ledger *ledger.Ledger // nil: the page is left alone
	Log    *slog.Logger
}

// SetPage says what becomes of the page when Write is called.
func (d *Documents) SetPage(p Page) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.page = p
}

// writePage writes the page about these series, unless there must be none, or somebody has
// another. Its record is written before it.
func (d *Documents) writePage(all []meta.Series, write func(name string, data []byte) error) error {
	if d.page.Ledger == nil || d.page.Omit {
		return nil
	}
	root := d.page.Root
	if root == nil {
		root = publishedRoot(d.dir)
	}
	data, err := page.Make(all, root, d.torrents())
	if err != nil {
		return err
	}
	known := d.page.Ledger
	before, own, err := d.ownPage(digestsOf(data))
	if err != nil {
		return err
	}
	if !own {
		return d.reportPage()
	}
	if record := known.Of(mirror.Page); record.Foreign || record.Sums != digestsOf(data) {
		record.Foreign, record.Sums, record.Base = false, digestsOf(data), before
		if err := known.Put(mirror.Page, record); err != nil {
			return err
		}
	}
	return write(mirror.Page, data)
}

// torrents returns the paths of the torrents that are listed, by the names of their files.
func (d *Documents) torrents() map[string]string {
	paths := make(map[string]string)
	for name := range d.lines {
		if file, is := mirror.FileOf(name); is {
			paths[file] = mirror.PathOf(name)
		}
	}
	return paths
}

// removePage removes a page that must not be there, if it is the tool's own, after the
// lists have ceased to name it.
func (d *Documents) removePage() (removed bool, err error) {
	if d.page.Ledger == nil || !d.page.Omit {
		return false, nil
	}
	if _, err := d.dir.Lstat(mirror.Page); errors.Is(err, fs.ErrNotExist) {
		if d.page.Ledger.Has(mirror.Page) {
			return false, d.page.Ledger.Delete(mirror.Page)
		}
		return false, nil
	}
	if _, own, err := d.ownPage(cksum.Sums{}); err != nil || !own {
		return false, err
	}
	if err := errors.Join(d.dir.Remove(mirror.Page), d.dir.SyncDir(".")); err != nil {
		return false, fmt.Errorf("removing %s: %w", mirror.Page, err)
	}
	return true, d.page.Ledger.Delete(mirror.Page)
}

// ownPage reports whether the tool may write or remove the page, of which a new one would
// have these sums, and returns the BLAKE3 of the one that is there.
func (d *Documents) ownPage(wanted cksum.Sums) (there cksum.Digest256, own bool, err error) {
	data, err := d.dir.ReadFile(mirror.Page, meta.MaxDocument)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return there, true, nil
	case errors.Is(err, atomicfile.ErrNotRegular), errors.Is(err, untrusted.ErrTooLarge):
		return there, false, nil
	case err != nil:
		return there, false, fmt.Errorf("reading %s: %w", mirror.Page, err)
	}
	record, is := d.page.Ledger.Of(mirror.Page), digestsOf(data)
	suspect := d.page.Ledger.Has(mirror.Page) && !record.Foreign && !record.Summed() // it must be made again
	own = suspect || is == wanted || is == record.Sums || is.BLAKE3 == record.Base || is.SHA256 == d.listedPage
	return is.BLAKE3, own, nil
}

// reportPage reports a page that is somebody's, once.
func (d *Documents) reportPage() error {
	record := d.page.Ledger.Of(mirror.Page)
	if record.Foreign {
		return nil
	}
	d.page.Log.Warn("this tool did not write this page: it stays, but is not published; move it away to get a page", "file", mirror.Page)
	return d.page.Ledger.Put(mirror.Page, &state.Record{Foreign: true})
}

// publishedRoot returns the newest root that a mirror has, nil if it is not signed.
func publishedRoot(dir atomicfile.Dir) *page.Root {
	entries, err := fs.ReadDir(dir.FS(), tuf.Dir)
	if err != nil {
		return nil
	}
	there := make(map[string]bool)
	for _, e := range entries {
		there[e.Name()] = true
	}
	n := int64(0)
	for there[tuf.RootName(n+1)] {
		n++
	}
	data, err := dir.ReadFile(tuf.Dir+"/"+tuf.RootName(n), maxRoot)
	if err != nil {
		return nil
	}
	root, err := page.ParseRoot(data)
	if err != nil {
		return nil // whoever signs or verifies says so
	}
	return root
}

// digestsOf returns the sums of a document.
func digestsOf(data []byte) cksum.Sums {
	h := cksum.New()
	_, _ = h.Write(data) // it never fails
	return h.Sums()
}
