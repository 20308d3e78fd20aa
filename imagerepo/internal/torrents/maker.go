package torrents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/imagerepo/plan"
)

// Maker makes torrents. Its methods can be called concurrently, for different files; names
// are those of images and deltas, not of their torrents. Where a file must have no torrent,
// they do nothing.
type Maker struct {
	Root     atomicfile.Dir // the mirror
	Ledger   *ledger.Ledger
	Holds    mirror.Inventory // what the mirror held before
	Torrents plan.Torrents    // with seeds, see Complete
	// Listed returns the SHA-256 that documents have of the file of that name. Withdraw
	// takes files out of them.
	Listed   func(name string) (cksum.Digest256, bool)
	Withdraw func(ctx context.Context, names ...string) error
	Progress *meter.Meter // counts the bytes that are read for torrents alone
	Jobs     int          // how many files are read concurrently
	Log      *slog.Logger

	mu     sync.Mutex
	passes map[string]*pass
}

// pass is the reading of a file for all its digests.
type pass struct {
	pieces *torrent.Hash
	of     cksum.Digest256 // the BLAKE3 of what was read, zero until it has been
}

// Begin returns what gets the bytes of a file while that is read for its digests. imageSize is
// that of the image, or of the one that a delta makes, in bytes.
func (m *Maker) Begin(file string, imageSize int64) (also []io.Writer) {
	if !m.Torrents.Wants(file) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passes == nil {
		m.passes = make(map[string]*pass)
	}
	p := &pass{pieces: torrent.NewHash(torrent.PieceLength(imageSize))}
	m.passes[file] = p
	return []io.Writer{p.pieces}
}

// End says that the file for which Begin was called last has these digests.
func (m *Maker) End(file string, sums cksum.Sums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.passes[file]; p != nil {
		p.of = sums.BLAKE3
	}
}

// take returns the pieces of a file with this BLAKE3, if a pass has them, and forgets them.
func (m *Maker) take(file string, of cksum.Digest256) (torrent.File, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.passes[file]
	delete(m.passes, file)
	if p == nil || p.of != of || of == (cksum.Digest256{}) {
		return torrent.File{}, false
	}
	return p.pieces.File(file), true
}

// Put writes the torrent of a file that this run has read for its digests, and that is in its
// place with the content of its record.
func (m *Maker) Put(ctx context.Context, file string) error {
	if f, ok := m.take(file, m.Ledger.Of(file).Sums.BLAKE3); ok {
		return m.put(ctx, f)
	}
	return ctx.Err()
}

// Make makes those torrents of these files that are missing or wrong. The files must be in their
// places, and recorded. It warns of each file that is not what its record says.
func (m *Maker) Make(ctx context.Context, files []plan.Torrent) error {
	var missing []plan.Torrent
	var listed []string
	for _, t := range files {
		name := mirror.TorrentOf(t.File)
		if action, _ := m.decide(t.File); action == plan.Keep {
			continue
		}
		missing = append(missing, t)
		if _, is := m.Listed(name); is {
			listed = append(listed, name)
		}
	}
	// All at once: the documents are written each time.
	if err := m.Withdraw(ctx, listed...); err != nil {
		return err
	}
	return pool.Each(ctx, m.Jobs, missing, func(ctx context.Context, t plan.Torrent) error {
		if err := m.make(ctx, t); err != nil {
			return fmt.Errorf("the torrent of %s: %w", t.File, err)
		}
		return nil
	})
}

// decide is Decide for what is known now.
func (m *Maker) decide(file string) (action plan.Action, read bool) {
	name := mirror.TorrentOf(file)
	var stamp state.Stamp
	if info, err := m.Root.Lstat(mirror.PathOf(name)); err == nil && info.Mode().IsRegular() {
		stamp = state.StampOf(info)
	}
	return Decide(m.Torrents, m.Ledger.Of(name), stamp, m.Ledger.Of(file).Sums.BLAKE3)
}

// make makes the torrent of one file.
func (m *Maker) make(ctx context.Context, t plan.Torrent) error {
	if f, ok := m.take(t.File, m.Ledger.Of(t.File).Sums.BLAKE3); ok {
		return m.put(ctx, f)
	}
	if _, read := m.decide(t.File); !read {
		if f, ok := m.again(t.File); ok {
			return m.put(ctx, f)
		}
	}
	f, err := m.read(ctx, t)
	if err != nil || f.Size == 0 {
		return err
	}
	return m.put(ctx, f)
}

// again returns the file of a torrent that names other trackers or seeds.
func (m *Maker) again(file string) (f torrent.File, ok bool) {
	name := mirror.TorrentOf(file)
	data, err := m.Root.ReadFile(mirror.PathOf(name), torrent.MaxSize)
	if err != nil || digest(data).BLAKE3 != m.Ledger.Of(name).Sums.BLAKE3 {
		return f, false
	}
	t, err := torrent.Parse(data)
	return t.File, err == nil
}

// read reads a file of the mirror for its pieces. The File is zero if it is not what its
// record says, or cannot be read: verify says more about that.
func (m *Maker) read(ctx context.Context, t plan.Torrent) (torrent.File, error) {
	in, err := m.Root.Open(mirror.PathOf(t.File))
	if errors.Is(err, fs.ErrNotExist) {
		return torrent.File{}, m.omit(t.File, err)
	} else if err != nil {
		return torrent.File{}, err
	}
	defer in.Close()
	defer m.Progress.Begin("torrent_read", mirror.PathOf(t.File))()
	pieces, blake3 := torrent.NewHash(torrent.PieceLength(t.ImageSize)), cksum.NewBLAKE3()
	_, err = io.Copy(io.MultiWriter(pieces, blake3), m.Progress.Reader(ctx, in))
	switch {
	case ctx.Err() != nil:
		return torrent.File{}, ctx.Err()
	case err != nil:
		return torrent.File{}, m.omit(t.File, err)
	case cksum.Digest256(blake3.Sum(nil)) != m.Ledger.Of(t.File).Sums.BLAKE3:
		return torrent.File{}, m.omit(t.File, errors.New("it is not what was published; run verify"))
	}
	return pieces.File(t.File), nil
}

// omit leaves out a torrent, with a warning.
func (m *Maker) omit(file string, reason error) error {
	m.Log.Warn("the file gets no torrent", "file", mirror.PathOf(file), "reason", reason)
	return nil
}

// put writes the torrent of a file, unless somebody else's file has its name. Its record is
// written first, so that a later run knows the torrent as the tool's own.
func (m *Maker) put(ctx context.Context, f torrent.File) error {
	name := mirror.TorrentOf(f.Name)
	place := mirror.PathOf(name)
	data, err := torrent.Make(f, m.Torrents.Trackers, seeds(m.Torrents, mirror.PathOf(f.Name)))
	if err != nil {
		return err
	}
	if _, err := m.Root.Lstat(place); err == nil && !m.Ledger.Has(name) && !m.Holds.Takes(name) {
		return m.omit(f.Name, fmt.Errorf("%s is there, and %w", place, mirror.ErrForeign))
	}
	if sha256, listed := m.Listed(name); listed && sha256 != digest(data).SHA256 {
		if err := m.Withdraw(ctx, name); err != nil {
			return err
		}
	}
	if err := errors.Join(m.Ledger.Put(name, &state.Record{}), m.Root.MkdirAll(mirror.TorrentDir, 0o777), ctx.Err()); err != nil {
		return err
	}
	if _, err := m.Root.Replace(mirror.TmpPath(name), place, data); err != nil {
		return err
	}
	info, err := m.Root.Stat(place)
	if err != nil {
		return err
	}
	return m.Ledger.Put(name, &state.Record{
		Stamp: state.StampOf(info), Sums: digest(data), Base: DigestOf(m.Torrents), Target: m.Ledger.Of(f.Name).Sums.BLAKE3,
	})
}

func digest(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

// Discard removes the torrent of a file before that gets the content of these digests, or an
// unknown one, and flushes the removal to the disk. Somebody else's torrent stays.
func (m *Maker) Discard(file string, next cksum.Sums) error {
	name := mirror.TorrentOf(file)
	if !m.Ledger.Has(name) || m.Ledger.Of(name).Target == next.BLAKE3 {
		return nil
	}
	if err := m.Root.Remove(mirror.PathOf(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return m.Root.SyncDir(mirror.TorrentDir)
}

// Right returns the SHA-256 of the torrent of a published file, and whether the mirror has that
// torrent and it is right.
func (m *Maker) Right(file string) (cksum.Digest256, bool) {
	if !m.Torrents.Wants(file) {
		return cksum.Digest256{}, false
	}
	action, _ := m.decide(file)
	return m.Ledger.Of(mirror.TorrentOf(file)).Sums.SHA256, action == plan.Keep
}
