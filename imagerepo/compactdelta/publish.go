package compactdelta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// patience is how long a run waits for the lock of the mirror.
var patience = 10 * time.Minute

// outdated is the error for a compact delta that is not published since the mirror has changed
// while it was made.
type outdated string

func (e outdated) Error() string { return string(e) }

// locked is a mirror whose lock is held, with what it has.
type locked struct {
	options Options
	mirror  *mirror.Mirror
	known   *ledger.Ledger
	docs    *published.Documents
	holds   mirror.Inventory
	changed bool // whether what is published was changed
}

// withLock takes the lock of the mirror, for which it waits, and calls do.
func withLock(ctx context.Context, o Options, do func(*locked) error) (changed bool, err error) {
	m, err := mirror.OpenWhenFree(ctx, o.MirrorDir, o.NoSync, patience, o.Log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	l := &locked{options: o, mirror: m}
	if err = l.load(); err == nil {
		err = do(l)
	}
	return l.changed, err
}

func (l *locked) load() (err error) {
	var damaged []string
	if l.known, damaged, err = ledger.Load(l.mirror.State); err != nil {
		return err
	}
	if l.docs, err = published.Load(l.mirror.Root, l.known.Has); err != nil {
		return err
	}
	listed := l.docs.Names()
	for _, name := range damaged {
		listed[name] = true // the record was the tool's own
	}
	l.holds, err = mirror.Look(l.mirror.Root.FS(), l.known.All(), listed)
	return err
}

// drop records that a compact delta is not worth having.
func (l *locked) drop(d Delta, size int64) error {
	if l.holds.Owns(d.File) && !l.known.Of(d.File).Dropped {
		if _, there := l.holds.Has(d.File); there {
			return nil // an orphan, whose record says more
		}
	}
	return l.known.Put(d.File, &state.Record{
		Base: d.base.BLAKE3, Target: d.target.BLAKE3, Dropped: true, Sums: cksum.Sums{Size: size},
	})
}

// publish puts a compact delta into the mirror, and into the documents of the series that want
// it. If the mirror is another than it was made of, the error is an outdated.
func (l *locked) publish(ctx context.Context, d Delta, m *made) error {
	series := l.wanting(d)
	if len(series) == 0 {
		return outdated("its images have changed, another run has made it, or it is no longer wanted")
	}
	if _, there := l.holds.Has(d.File); there && !l.holds.Takes(d.File) {
		return outdated(fmt.Sprintf("%s is there, and %v", meta.CompactPath(d.File), mirror.ErrForeign))
	}
	maker := l.torrents()
	if err := l.place(ctx, d, m, maker); err != nil {
		return err
	}
	if err := maker.Put(ctx, d.File); err != nil {
		return err
	}
	torrent, right := maker.Right(d.File)
	if !right {
		torrent = cksum.Digest256{}
	}
	entry := meta.Compact{
		File: meta.File{URLs: []string{l.url(d.File)}, Sums: m.sums}, Filename: d.File, Base: d.Base,
		Memory: m.info.Memory, Coded: m.info.Coded, Unpacked: m.info.Unpacked,
	}
	for _, name := range series {
		l.docs.SetCompact(name, d.Target, entry, torrent)
	}
	return l.write(ctx)
}

// trust notes that compact deltas which workers alone have applied are right.
func (l *locked) trust(files []string) error {
	for _, file := range files {
		if record := l.known.Of(file); record.Believed {
			record.Believed = false
			if err := l.known.Put(file, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// wanting returns the series that want the compact delta of these images, and do not have it.
func (l *locked) wanting(d Delta) (series []string) {
	wanted, images := decided(l.docs.All(), nil, l.options.Policy.Compact, l.options.Series)
	i := slices.IndexFunc(wanted, func(w plan.CompactDelta) bool { return w.File == d.File && w.Target == d.Target })
	if i < 0 || wanted[i].Action == plan.Keep || images[d.Target].BLAKE3 != d.target.BLAKE3 || images[d.Base].BLAKE3 != d.base.BLAKE3 {
		return nil
	}
	return wanted[i].Series
}

// place gives the compact delta its place, and records it: as the tool's own before it is
// there, and with what it is made of after that.
func (l *locked) place(ctx context.Context, d Delta, m *made, maker *torrents.Maker) error {
	if err := l.known.Put(d.File, &state.Record{Orphaned: l.known.Of(d.File).Orphaned}); err != nil {
		return err
	}
	root := l.mirror.Root
	if _, err := root.Lstat(mirror.CompactDir); errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(root.MkdirAll(mirror.CompactDir, 0o777), root.SyncDir(".")); err != nil {
			return err
		}
	}
	f, err := root.Begin(mirror.TmpPath(d.File), meta.CompactPath(d.File))
	if err != nil {
		return err
	}
	defer f.Discard()
	written := cksum.NewBLAKE3()
	to := append(maker.Begin(d.File, d.target.Size), f, written)
	if _, err := io.Copy(io.MultiWriter(to...), contextReader{ctx, io.NewSectionReader(m.file, 0, m.sums.Size)}); err != nil {
		return err
	}
	if cksum.Digest256(written.Sum(nil)) != m.sums.BLAKE3 {
		return compacts.ErrWrong
	}
	maker.End(d.File, m.sums)
	if err := maker.Discard(d.File, m.sums); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	info, err := root.Stat(meta.CompactPath(d.File))
	if err != nil {
		return err
	}
	return l.known.Put(d.File, &state.Record{
		Stamp: state.StampOf(info), Sums: m.sums, Base: d.base.BLAKE3, Target: d.target.BLAKE3, Believed: m.believed,
		Compact: state.Compact{Memory: m.info.Memory, Coded: m.info.Coded, Unpacked: m.info.Unpacked},
	})
}

// torrents returns what makes torrents.
func (l *locked) torrents() *torrents.Maker {
	wanted, _ := torrents.Complete(l.options.Torrents, l.options.URL) // the build has checked
	return &torrents.Maker{
		Root: l.mirror.Root, Ledger: l.known, Holds: l.holds, Torrents: wanted, Listed: l.docs.Listed,
		Withdraw: l.withdraw, Progress: meter.New(0, nil), Jobs: 1, Log: l.options.Log,
	}
}

func (l *locked) withdraw(ctx context.Context, files ...string) error {
	if !l.docs.Withdraw(files...) {
		return nil
	}
	return l.write(ctx)
}

// write writes the documents and has them signed.
func (l *locked) write(ctx context.Context) error {
	o := l.options
	l.docs.SetPage(published.Page{Omit: o.NoPage, Root: o.Root, Ledger: l.known, Log: o.Log})
	l.docs.KeepBestBefore(o.BestBefore)
	changed, err := l.docs.Write(ctx)
	l.changed = l.changed || changed
	if err == nil && o.Sign != nil {
		changed, err = o.Sign(ctx, l.mirror.Root)
		l.changed = l.changed || changed
	}
	if err != nil {
		return err
	}
	changed, err = l.docs.WriteBestBefore(ctx, l.known, o.BestBefore)
	l.changed = l.changed || changed
	return err
}

// url returns the url of a compact delta.
func (l *locked) url(file string) string {
	if l.options.URL == "" {
		return meta.CompactPath(file)
	}
	return l.options.URL + "/" + meta.CompactPath(file)
}

// remember records a rate of work.
func (l *locked) remember(rate float64) error {
	last := l.mirror.LastRun()
	if rate == last.CompactRate {
		return nil
	}
	last.CompactRate = rate
	return l.mirror.PutRun(last)
}

// contextReader is a reader that ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
