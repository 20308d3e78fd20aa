package imagedir

import (
	"bytes"
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
	"puavo-image-repository/meta"
)

const knownName = ".image_updates_known"

// ErrWrong is wrapped by the error for a file that is not what it should be.
var ErrWrong = errors.New("not what it should be")

// memory is what is known of the images.
type memory struct {
	Files   map[string]record `json:"files"`
	Pending meta.Name         `json:"pending,omitzero"`
}

// record is what is known of a file.
type record struct {
	Size   int64           `json:"size"`
	MTime  int64           `json:"mtime"`
	CTime  int64           `json:"ctime"`
	Inode  uint64          `json:"inode"`
	SHA512 cksum.Digest512 `json:"sha512,omitzero"`
	BLAKE3 cksum.Digest256 `json:"blake3,omitzero"`
}

// stamp returns the record of a file of which nothing is known.
func stamp(info fs.FileInfo) record {
	r := record{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		r.CTime, r.Inode = s.Ctim.Nano(), s.Ino
	}
	return r
}

// load reads what is known.
func (d *Dir) load() {
	d.known = memory{}
	data, err := d.ReadFile(knownName)
	if err != nil || json.Unmarshal(data, &d.known) != nil {
		d.known = memory{}
	}
	if d.known.Files == nil {
		d.known.Files = make(map[string]record)
	}
}

// save writes what is known, less what is not so any more.
func (d *Dir) save() error {
	maps.DeleteFunc(d.known.Files, func(file string, _ record) bool {
		_, ok := d.record(file)
		return !ok
	})
	if d.lock == nil {
		return nil
	}
	var data bytes.Buffer
	if err := json.NewEncoder(&data).Encode(d.known); err != nil {
		return err
	}
	_, err := d.Replace(knownName+".tmp", knownName, data.Bytes())
	return err
}

// record returns what is known of a file, if it is still the one it was.
func (d *Dir) record(file string) (record, bool) {
	r, ok := d.known.Files[file]
	if !ok {
		return record{}, false
	}
	info, err := d.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return record{}, false
	}
	now := stamp(info)
	now.SHA512, now.BLAKE3 = r.SHA512, r.BLAKE3
	return r, r == now
}

// compare holds what is known against what is wanted.
func (r record) compare(want cksum.Sums) (right, known bool) {
	switch {
	case r.Size != want.Size:
		return false, true
	case r.SHA512 != cksum.Digest512{}:
		return r.SHA512 == want.SHA512, true
	case r.BLAKE3 != cksum.Digest256{} && want.BLAKE3 != cksum.Digest256{}:
		return r.BLAKE3 == want.BLAKE3, true
	}
	return false, false
}

// Known reports whether a file is what is wanted, as far as that is known without
// reading it.
func (d *Dir) Known(file string, want cksum.Sums) (right, known bool) {
	r, ok := d.record(file)
	if !ok {
		return false, false
	}
	return r.compare(want)
}

// Check compares a file with the size and the BLAKE3 that it should have, or the
// SHA-512 where the other is not given. It is read only if that is not known from
// before. An error for a file that is not right wraps ErrWrong. progress, which may
// be nil, is called with the bytes that were read. What is found out is remembered,
// if it can be.
func (d *Dir) Check(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := d.Lstat(file)
	if err != nil {
		return err
	}
	right, known := d.Known(file, want)
	if !known && info.Size() == want.Size {
		r, err := d.read(ctx, file, want, progress)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		d.known.Files[file] = r
		_ = d.save() // it costs another look, the next time
		right, _ = r.compare(want)
	}
	if !right {
		return fmt.Errorf("%s in %s is %w: it has another size or digest", file, d.Name(), ErrWrong)
	}
	return nil
}

// read takes a digest of a file.
func (d *Dir) read(ctx context.Context, file string, want cksum.Sums, progress func(done, total int64)) (record, error) {
	f, err := d.Open(file)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return record{}, err
	}
	r := stamp(before)
	var digest hash.Hash
	fast := want.BLAKE3 != cksum.Digest256{}
	if digest = sha512.New(); fast {
		digest = cksum.NewBLAKE3()
	}
	in := &contextReader{ctx: ctx, r: f, total: r.Size, progress: progress}
	if _, err := io.CopyBuffer(digest, in, make([]byte, 1<<20)); err != nil {
		return record{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return record{}, err
	}
	if stamp(after) != r {
		return record{}, errors.New("it was changed meanwhile")
	}
	if fast {
		digest.Sum(r.BLAKE3[:0])
	} else {
		digest.Sum(r.SHA512[:0])
	}
	return r, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx         context.Context
	r           io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	if r.done += int64(n); r.progress != nil {
		r.progress(r.done, r.total)
	}
	return n, err
}

// Learn remembers the digests of a file that was just made and verified. Zero ones
// are not known.
func (d *Dir) Learn(file string, sums cksum.Sums) error {
	info, err := d.Lstat(file)
	if err != nil {
		return err
	}
	r := stamp(info)
	r.SHA512 = sums.SHA512
	d.known.Files[file] = r
	return d.save()
}

// Forget has the next Check of a file read it.
func (d *Dir) Forget(file string) { delete(d.known.Files, file) }

// keeping calls change, which changes names and links but no content, and keeps
// what was known of these files before.
func (d *Dir) keeping(change func() error, files ...string) error {
	before := make(map[string]record)
	for _, file := range files {
		if r, ok := d.record(file); ok {
			before[file] = r
		}
	}
	err := change()
	for file, r := range before {
		info, statErr := d.Lstat(file)
		if statErr != nil {
			continue
		}
		now := stamp(info)
		if now.Inode == r.Inode && now.Size == r.Size && now.MTime == r.MTime {
			now.SHA512, now.BLAKE3 = r.SHA512, r.BLAKE3
			d.known.Files[file] = now
		}
	}
	return errors.Join(err, d.save())
}

// Pending returns the image whose putting to use has begun and not ended.
func (d *Dir) Pending() meta.Name { return d.known.Pending }

// SetPending remembers it; the zero Name stands for none.
func (d *Dir) SetPending(n meta.Name) error {
	if d.known.Pending == n {
		return nil
	}
	d.known.Pending = n
	return d.save()
}
