// Package archive keeps every version of images in a fraction of their size: the newest of a
// group whole, and the others as deltas that make each from the next newer one.
//
// # Files
//
//	.archive/                  by which an archive is known, with the lock
//	<group>/<version>.img      the newest version, and some between
//	<group>/<version>.rdiff    makes a version from the next newer one; .cdelta, a compact delta
//	<group>/SHA256SUMS         of all versions, as <version>.img, also of those that are deltas
//	<group>/catalog.json       what the group holds; .bak, the same
//	<group>/trash/             what was pruned and waits for its removal
//	<guest>/<disk>/            the same for the disk of a guest: its group is <guest>/<disk>
//	<guest>/<version>/         the log of a backup, and what was attached; .failed, of one that failed
//	<guest>/.pending.json      the versions of a backup that are complete, until all disks have theirs
//
// A group is a series: its name is that of the series, <prefix>-<arch>, and a version that in
// the image's name. Package catalog specifies the files.
//
// An image comes as a reflink, or is copied, and never as a hard link: somebody may overwrite
// the original in place, and all older versions rest on it. Within the archive, files of two
// groups that are equal are one file with two names.
//
// # Without this program
//
// What "rdiff patch" of librsync makes of the version above and the delta is the version, from
// the newest that is whole downwards:
//
//	rdiff patch 2024-03-01-120000.img 2024-02-01-120000.rdiff 2024-02-01-120000.img
//	sha256sum --ignore-missing -c SHA256SUMS
//
// # How it changes
//
// New files are written, flushed and verified under names that end in ".new"; then both copies
// of the catalog are replaced; then the files get their names, what was pruned is moved, and
// what no version needs is removed. What a run that died has not completed, the next change
// does. Reading takes no lock: it opens the files of one state of the catalog, and finds them
// under either name.
//
// The disks of a guest get a version together: when the files of all of them are complete, that is
// decided, and then each catalog names its version, one after the other. A run that dies in
// between leaves a version that some disks have; the next change gives it to the others.
//
// A delta is applied by an independent decoder, and what it makes has the digest of the
// version, before it is named. So the archive never loses a version to a fault of this program;
// but one flipped bit in a whole file hurts all versions that rest on it. Verify finds that, and
// a second archive repairs it.
//
// # Chains
//
// After Options.MaxChain deltas, a version stays whole when a newer one comes. A version goes
// into the trash only after those that were made from it have deltas from another. In the trash
// each keeps what it is made from, so that it can be restored from there until GC removes it.
//
// To read a version takes no image in between, see package content: memory for the commands of
// its deltas, or, where they are too many, and for compact deltas, temporary files.
package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/chain"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

var (
	// ErrStore is wrapped by the error for a directory that is no archive.
	ErrStore = errors.New("not an archive")
	// ErrDamaged is wrapped by the error for a group of which no right catalog is left.
	ErrDamaged = catalog.ErrDamaged
	// ErrUnknown is wrapped by the error for a group or a version that the archive lacks.
	ErrUnknown = group.ErrUnknown
	// ErrSpace is wrapped by the error for a disk that will most likely not do.
	ErrSpace = plan.ErrSpace
	// ErrLocked is wrapped by the error for an archive, or a file to restore to, that another run writes.
	ErrLocked = lockfile.ErrHeld
)

// Format is how versions are stored that are not whole.
type Format = catalog.Form

// The formats.
const (
	Rdiff   = catalog.Rdiff
	Compact = catalog.Compact
)

// Options say how an archive is used. The zero Options are the usual ones.
type Options struct {
	Create   bool   // makes the archive if the directory is missing or empty
	Format   Format // of deltas that are made; "" is Rdiff
	MaxChain int    // how many deltas make a version at most; 0 is 16
	// Memory bounds the index that deltas are made with, and the commands of deltas that are
	// read, in bytes; 0 is 64 MiB or a 16th of an image, and 512 MiB.
	Memory      int64
	NoSync      bool // flushes no files
	IgnoreSpace bool // begins even if the free space will probably not suffice

	Log *slog.Logger // nil discards messages
	// Progress, which may be nil, is called with the work done and in all; Stage with what is
	// worked on.
	Progress func(done, total int64)
	Stage    func(stage, file string)
	Now      func() time.Time // nil is time.Now
}

// Store is an open archive. Its methods can be called concurrently, but for the first Add to
// an archive that does not exist yet. Those that change it lock it, also for other processes.
type Store struct {
	path string
	dir  atomicfile.Dir // zero until it is made, see Options.Create
	o    Options
}

const (
	private  = ".archive" // the directory by which an archive is known
	lockName = private + "/lock"
)

// Open opens an archive. Whoever calls it calls Close.
func Open(path string, o Options) (*Store, error) {
	o.Format, o.MaxChain = cmp.Or(o.Format, Rdiff), cmp.Or(o.MaxChain, chain.MaxDeltas)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Memory != 0 && o.Memory < budget.Least() {
		return nil, fmt.Errorf("an archive needs %d MiB of memory or more, not %d", (budget.Least()+1<<20-1)>>20, o.Memory>>20)
	}
	s := &Store{path: path, o: o}
	return s, s.openDir()
}

// openDir opens the directory of the archive, if it is there. If not, it must be possible to
// make it.
func (s *Store) openDir() error {
	info, err := os.Stat(filepath.Join(s.path, private))
	if err == nil && info.IsDir() {
		s.dir, err = atomicfile.Open(s.path)
		s.dir.NoSync = s.o.NoSync
		return err
	}
	entries, err := os.ReadDir(s.path)
	switch {
	case !s.o.Create && (err == nil || errors.Is(err, fs.ErrNotExist)):
		return fmt.Errorf("%s is %w: it has no %s; create one with: archive add DIR %s", s.path, ErrStore, private, s.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return fmt.Errorf("%s is %w, and not empty: it contains %s; choose another directory", s.path, ErrStore, untrusted.Quote(e.Name()))
		}
	}
	return nil
}

// create makes the directory of an archive.
func create(path string) (dir atomicfile.Dir, err error) {
	above, err := atomicfile.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return dir, err
	}
	defer above.Close()
	if err := above.MkdirAll(filepath.Base(filepath.Clean(path)), 0o777); err != nil {
		return dir, err
	}
	if dir, err = atomicfile.Open(path); err != nil {
		return dir, err
	}
	if err := errors.Join(dir.MkdirAll(private, 0o777), dir.SyncDir("."), above.SyncDir(".")); err != nil {
		dir.Close()
		return atomicfile.Dir{}, err
	}
	return dir, nil
}

// Close closes the archive.
func (s *Store) Close() error {
	if s.dir.IsZero() {
		return nil
	}
	return s.dir.Close()
}

// lock takes the lock of the archive, which it makes if it is missing, and completes what a run
// that died has begun.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	if s.dir.IsZero() {
		if s.dir, err = create(s.path); err != nil {
			return nil, err
		}
		s.dir.NoSync = s.o.NoSync
	}
	l, err := lockfile.Acquire(s.path, lockName)
	if err != nil {
		return nil, err
	}
	if err := s.complete(ctx); err != nil {
		l.Release()
		return nil, err
	}
	return func() { l.Release() }, nil
}

// complete completes what runs that died have begun. The archive is locked.
func (s *Store) complete(ctx context.Context) error {
	if err := s.finishGuests(ctx); err != nil {
		return err
	}
	names, err := s.names()
	for _, name := range names {
		g, openErr := s.change(ctx, name)
		if openErr == nil {
			g.Close()
		} else if !errors.Is(openErr, ErrDamaged) { // that is for Rebuild
			err = cmp.Or(err, openErr)
		}
	}
	return err
}

// names returns the names of all groups, sorted.
func (s *Store) names() (names []string, err error) { return s.directories(s.isGroup) }

// directories returns the names that a group can have of directories that fit, sorted. The disks
// of a guest are directories in that of the guest.
func (s *Store) directories(fits func(name string) bool) (names []string, err error) {
	if s.dir.IsZero() {
		return nil, nil
	}
	entries, err := fs.ReadDir(s.dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if _, err := catalog.ParseGroup(name); err != nil || !e.IsDir() {
			continue
		}
		if fits(name) {
			names = append(names, name)
			continue
		}
		disks, err := fs.ReadDir(s.dir.FS(), name)
		if err != nil {
			return nil, err
		}
		for _, d := range disks {
			if disk := name + "/" + d.Name(); d.IsDir() && catalog.CheckDisk(d.Name()) == nil && fits(disk) {
				names = append(names, disk)
			}
		}
	}
	return names, nil
}

// isGroup reports whether a directory holds versions, or a catalog.
func (s *Store) isGroup(name string) bool { return !s.dir.IsZero() && group.Is(s.dir, name) }

// chosen returns the names of the groups that match, or whose guests do.
func (s *Store) chosen(globs plan.Globs) (names []string, err error) {
	all, err := s.names()
	for _, name := range all {
		if owner, _, isDisk := strings.Cut(name, "/"); globs.Match(name) || isDisk && globs.Match(owner) {
			names = append(names, name)
		}
	}
	if err == nil && len(names) == 0 && len(globs) > 0 {
		err = fmt.Errorf("a matching group is %w, which has %d groups", ErrUnknown, len(all))
	}
	return names, err
}

// open opens a group to read it.
func (s *Store) open(name string) (*group.Group, error) {
	if err := s.check(name); err != nil {
		return nil, err
	}
	return group.Open(s.dir, name)
}

// check returns an error for what is no group.
func (s *Store) check(name string) error {
	if _, err := catalog.ParseGroup(name); err != nil {
		return err
	}
	if s.isGroup(name) {
		return nil
	}
	if disks := s.disksOf(name); len(disks) > 0 {
		return fmt.Errorf("%s is a guest, whose disks are groups; give one of them: %s", name, strings.Join(disks, ", "))
	}
	all, _ := s.names()
	hint := ""
	if near := untrusted.Nearest(name, all); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return fmt.Errorf("the group %s is %w%s", name, ErrUnknown, hint)
}

// change opens a group to change it, once the archive is locked, and completes what a dead run
// has begun.
func (s *Store) change(ctx context.Context, name string) (*group.Group, error) {
	if err := s.check(name); err != nil {
		return nil, err
	}
	return group.Change(ctx, s.dir, name)
}

// create opens a group to change it, or makes it.
func (s *Store) create(ctx context.Context, name string) (*group.Group, error) {
	if s.isGroup(name) {
		return s.change(ctx, name)
	}
	if s.isGuest(name) {
		return nil, fmt.Errorf("%s is a guest in this archive, and cannot be a group of images", name)
	}
	return group.Create(ctx, s.dir, name)
}

// usualReading is how much memory the commands of deltas take that are read, in bytes.
const usualReading = 512 << 20

// reading returns how much memory the commands of deltas may take.
func (s *Store) reading() int64 {
	if s.o.Memory == 0 {
		return usualReading
	}
	return s.o.Memory - budget.Least()
}

// index returns how much memory a delta from a base of size bytes is made with.
func (s *Store) index(size int64) int64 {
	if s.o.Format == Compact {
		return max(s.o.Memory, compactMemory)
	}
	b, err := budget.New(s.o.Memory, 1)
	if err != nil {
		return budget.Least() // which Open has checked
	}
	return b.Index(size)
}

// compactMemory is what a compact delta is made with at least, in bytes.
const compactMemory = 768 << 20

// contentOf opens a version of a group, with temporary files in scratch.
func (s *Store) contentOf(ctx context.Context, g *group.Group, version string, scratch atomicfile.Dir) (*content.Content, error) {
	steps, err := g.Path(version)
	if err != nil {
		return nil, err
	}
	files, err := content.OpenFiles(ctx, g.Dir, steps)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return content.Open(ctx, scratch, files, s.reading())
}

// meter returns what counts the work of a call.
func (s *Store) meter(total int64) *meter.Meter {
	m := meter.New(total, s.o.Progress)
	if s.o.Stage != nil {
		m.Tell(func(step meter.Step) { s.o.Stage(step.Stage, step.File) })
	}
	return m
}
