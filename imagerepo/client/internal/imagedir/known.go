package imagedir

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"syscall"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/meta"
)

const (
	knownName = ".image_updates_known"
	knownTmp  = knownName + ".tmp"
)

// mostKnown bounds that file, in bytes.
const mostKnown = 1 << 20

// ErrWrong is wrapped by the error for a file whose content is not what it should
// be.
var ErrWrong = errors.New("wrong content")

// known is what is known, as it is written.
type known struct {
	Files   map[string]entry `json:"files,omitempty"`
	Pending meta.Name        `json:"pending,omitzero"`
}

// entry is what is known of one file.
type entry struct {
	stamp
	SHA512 cksum.Digest512 `json:"sha512,omitzero"`
	BLAKE3 cksum.Digest256 `json:"blake3,omitzero"`
}

// stamp tells, without reading it, whether a file is the one it was.
type stamp struct {
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"`
	CTime int64  `json:"ctime"`
	Inode uint64 `json:"inode"`
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.CTime, s.Inode = sys.Ctim.Nano(), sys.Ino
	}
	return s
}

// parse reads what is known. What is damaged is left out.
func parse(data []byte) known {
	var k known
	if json.Unmarshal(data, &k) != nil {
		k = known{}
	}
	if k.Files == nil {
		k.Files = make(map[string]entry)
	}
	maps.DeleteFunc(k.Files, func(file string, e entry) bool { return !rememberable(file) || e.isEmpty() })
	return k
}

// rememberable reports whether a file is of a kind of which anything is remembered.
func rememberable(file string) bool {
	_, suffix, ok := split(file)
	return ok && (suffix == "" || suffix == assemble.PartialSuffix)
}

func (e entry) isEmpty() bool {
	return e.SHA512 == cksum.Digest512{} && e.BLAKE3 == cksum.Digest256{}
}

// of returns what is known of a file that is there, if anything is.
func (k known) of(file string, info fs.FileInfo) (entry, bool) {
	e, ok := k.Files[file]
	return e, ok && info.Mode().IsRegular() && e.stamp == stampOf(info)
}

// valid returns what is known of the files that are there.
func (k known) valid(dir atomicfile.Dir) map[string]entry {
	files := make(map[string]entry, len(k.Files))
	for file := range k.Files {
		if info, err := dir.Lstat(file); err == nil {
			if e, ok := k.of(file, info); ok {
				files[file] = e
			}
		}
	}
	return files
}

// restamp takes over what was known of a file whose name or number of links we
// have changed since, which changes its ctime and nothing else.
func (k known) restamp(dir atomicfile.Dir, file string, was entry) {
	info, err := dir.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	now := stampOf(info)
	was.CTime = now.CTime
	if was.stamp == now {
		k.Files[file] = was
	}
}

// remember adds to what is known of a file.
func (k known) remember(file string, e entry) {
	if !rememberable(file) {
		return
	}
	if old := k.Files[file]; old.stamp == e.stamp {
		if (e.SHA512 == cksum.Digest512{}) {
			e.SHA512 = old.SHA512
		}
		if (e.BLAKE3 == cksum.Digest256{}) {
			e.BLAKE3 = old.BLAKE3
		}
	}
	k.Files[file] = e
}

// load reads what is known, and adds what this Dir has found out before.
func (d *Dir) load() {
	var data []byte
	if info, err := d.Lstat(knownName); err == nil && info.Mode().IsRegular() && info.Size() <= mostKnown {
		data, _ = d.ReadFile(knownName)
	}
	before := d.known.valid(d.Dir)
	d.known = parse(data)
	d.known.Files = d.known.valid(d.Dir)
	for file, e := range before {
		d.known.remember(file, e)
	}
}

// save writes what is known, if the lock is held. What is no longer so is left
// out. Mostly an error is of no interest: it costs another look at a file.
func (d *Dir) save() error {
	if err := d.locked(); err != nil {
		return err
	}
	d.known.Files = d.known.valid(d.Dir)
	data, err := json.Marshal(d.known)
	if err != nil {
		return err
	}
	if info, err := d.Lstat(knownName); err == nil && !info.Mode().IsRegular() { // a pipe would be waited for
		if err := d.drop(knownName); err != nil {
			return err
		}
	}
	_, err = d.Replace(knownTmp, knownName, append(data, '\n'))
	return err
}

// keeping makes a change of names or links, and keeps what is known of the files
// whose ctime it changes.
func (d *Dir) keeping(change func() error) error {
	before := d.known.valid(d.Dir)
	err := change()
	for file, e := range before {
		d.known.restamp(d.Dir, file, e)
	}
	d.save()
	return err
}

// Pending returns the image whose installing was begun and has not ended, the zero
// Name if there is none.
func (d *Dir) Pending() meta.Name { return d.known.Pending }

// SetPending sets the pending image, the zero Name for none. It is on the disk when
// SetPending returns without an error.
func (d *Dir) SetPending(n meta.Name) error {
	before := d.known.Pending
	d.known.Pending = n
	if err := d.save(); err != nil {
		d.known.Pending = before
		return fmt.Errorf("noting in %s which image is being installed: %w", d.Name(), err)
	}
	return nil
}

// Learn remembers digests, the SHA-512 or the BLAKE3 or both, of a file of an image
// that was just made and verified. That they cannot be written down is no error.
func (d *Dir) Learn(file string, sums cksum.Sums) error {
	err := d.learn(file, sums)
	if err == nil {
		d.save()
	}
	return err
}

func (d *Dir) learn(file string, sums cksum.Sums) error {
	info, err := d.Lstat(file)
	if err != nil {
		return err
	}
	e := entry{stampOf(info), sums.SHA512, sums.BLAKE3}
	switch {
	case !info.Mode().IsRegular() || !rememberable(file) || e.isEmpty():
		return fmt.Errorf("%s: nothing to learn of it", file)
	case e.stamp.Size != sums.Size:
		return fmt.Errorf("%s: %w: it has %d bytes, want %d", file, ErrWrong, e.stamp.Size, sums.Size)
	}
	d.known.remember(file, e)
	return nil
}

// Forget has the next Check of a file read it.
func (d *Dir) Forget(file string) { delete(d.known.Files, file) }

// Known is Check without reading: it reports whether a file is right, and whether
// that is known.
func (d *Dir) Known(file string, want cksum.Sums) (right, known bool) {
	info, err := d.Lstat(file)
	if err != nil {
		return false, false
	}
	known, err = d.compare(file, info, want)
	return known && err == nil, known
}

// Check compares a file with its size and its digest: nil if they are right, an
// error that wraps ErrWrong if not. Only what is not known from before is read,
// with calls of progress, which may be nil, and then remembered: on the disk if the
// lock is held, else for this Dir alone. The digest that is taken is the BLAKE3
// where there is one to compare with, else the SHA-512.
func (d *Dir) Check(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := d.Lstat(file)
	if err != nil {
		return err
	}
	if known, err := d.compare(file, info, want); known {
		return err
	}
	e, err := d.digest(ctx, file, want, progress)
	if err != nil {
		return err
	}
	_, err = e.compare(file, want)
	return err
}

// compare is Check without reading. If the result is not known, the error is of no
// interest.
func (d *Dir) compare(file string, info fs.FileInfo, want cksum.Sums) (known bool, err error) {
	if !info.Mode().IsRegular() {
		return true, fmt.Errorf("%s: %w: it is no regular file", file, ErrWrong)
	}
	if info.Size() != want.Size {
		return true, fmt.Errorf("%s: %w: it has %d bytes, want %d", file, ErrWrong, info.Size(), want.Size)
	}
	e, known := d.known.of(file, info)
	if !known {
		return false, nil
	}
	return e.compare(file, want)
}

// compare compares what is known of a file with its digest. The SHA-512 decides,
// for it is what images are verified by when they are made.
func (e entry) compare(file string, want cksum.Sums) (known bool, err error) {
	var none cksum.Sums
	switch {
	case e.SHA512 != none.SHA512 && want.SHA512 != none.SHA512:
		if e.SHA512 != want.SHA512 {
			err = fmt.Errorf("%s: %w: its SHA-512 is %s, want %s", file, ErrWrong, e.SHA512, want.SHA512)
		}
	case e.BLAKE3 != none.BLAKE3 && want.BLAKE3 != none.BLAKE3:
		if e.BLAKE3 != want.BLAKE3 {
			err = fmt.Errorf("%s: %w: its BLAKE3 is %s, want %s", file, ErrWrong, e.BLAKE3, want.BLAKE3)
		}
	default:
		return false, fmt.Errorf("%s: no digest to compare it with", file)
	}
	return true, err
}

// digest takes the digest of a file that is compared, and remembers it.
func (d *Dir) digest(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) (entry, error) {
	f, err := d.Open(file)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return entry{}, err
	}
	e := entry{stamp: stampOf(before)}
	var h hash.Hash
	var sum []byte
	if (want.BLAKE3 != cksum.Digest256{}) {
		h, sum = cksum.NewBLAKE3(), e.BLAKE3[:0]
	} else {
		h, sum = sha512.New(), e.SHA512[:0]
	}
	if err := read(ctx, h, f, file, want.Size, progress); err != nil {
		return entry{}, err
	}
	h.Sum(sum)
	d.known.remember(file, e) // as it was before: if it was changed since, that is not known
	d.save()
	return e, nil
}

// read digests so many bytes, which must be all.
func read(ctx context.Context, h hash.Hash, f io.Reader, file string, size int64, progress func(done, total int64)) error {
	buf := make([]byte, 1<<20)
	var done int64
	for {
		n, err := f.Read(buf)
		done += int64(n)
		h.Write(buf[:n])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case done > size || err == io.EOF && done < size:
			return fmt.Errorf("%s: %w: its size was changed while it was read", file, ErrWrong)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if progress != nil {
			progress(done, size)
		}
	}
}
