package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta/untrusted"
)

// content is what one look finds of a file: first that it exists, then its digests.
type content struct {
	file *file
	info fs.FileInfo // nil if it is missing or is not to be read
	sums cksum.Sums  // zero until it was read
	bad  bool        // it is missing, cannot be read, or is not as claimed
}

// checker compares the contents of files with what documents claim of them. Its
// methods can be called concurrently, for different files.
type checker struct {
	root    atomicfile.Dir
	records records
	cached  *caches
	found   *findings
}

// statAll returns the contents of all files, by path, and which of them must be read,
// the largest first. The others are missing, or checked by the cached digests.
func (k *checker) statAll(ctx context.Context, all files) (contents map[string]*content, unread []*content, err error) {
	contents = make(map[string]*content, len(all))
	for p, f := range all {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		c := k.stat(f)
		contents[p] = c
		if c.info != nil && !k.recall(c) {
			unread = append(unread, c)
		}
	}
	slices.SortFunc(unread, func(a, b *content) int {
		return cmp.Or(cmp.Compare(b.info.Size(), a.info.Size()), strings.Compare(a.file.path, b.file.path))
	})
	return contents, unread, nil
}

// bytesOf returns how many bytes of work it is to read files.
func bytesOf(unread []*content) (n int64) {
	for _, c := range unread {
		n += c.info.Size()
	}
	return n
}

// stat examines a file without reading it.
func (k *checker) stat(f *file) *content {
	info, err := statFile(k.root, f.path)
	c := &content{file: f, bad: true}
	switch {
	case f.document != nil && errors.Is(f.document.malformed, untrusted.ErrTooLarge):
		// It was reported, and is not read.
	case err == nil:
		return &content{file: f, info: info}
	case errors.Is(err, fs.ErrNotExist):
		detail := f.namers()
		if why, ok := errors.AsType[noFile](err); ok {
			detail += "; " + string(why)
		}
		k.found.add(f.path, Missing, detail)
	default:
		k.found.add(f.path, Unreadable, err.Error())
	}
	k.addContradictions(c)
	return c
}

// recall checks a file by digests that a look before has cached, and reports whether
// there are any. Documents are read by each look.
func (k *checker) recall(c *content) bool {
	sums, known := k.cached.digests.get(state.StampOf(c.info))
	if known = known && c.file.document == nil; known {
		k.check(c, sums)
	}
	return known
}

// readAll reads and checks files, jobs at a time.
func (k *checker) readAll(ctx context.Context, jobs int, unread []*content, work *meter.Meter) error {
	return pool.Each(ctx, jobs, unread, func(ctx context.Context, c *content) error {
		sums, err := k.digest(ctx, c, work)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.bad = true
			k.found.add(c.file.path, Unreadable, strings.TrimPrefix(err.Error(), "cksum: "))
			k.addContradictions(c)
		default:
			k.check(c, sums)
		}
		return nil
	})
}

// digest reads a file, or takes the bytes of a document that was read already.
func (k *checker) digest(ctx context.Context, c *content, work *meter.Meter) (cksum.Sums, error) {
	switch doc := c.file.document; {
	case doc == nil:
	case doc.unreadable != nil:
		return cksum.Sums{}, doc.unreadable
	case doc.data != nil:
		return cksum.Read(ctx, work.At(meter.Digest).Reader(ctx, bytes.NewReader(doc.data)))
	}
	in, err := openFile(k.root, c.file.path)
	if err != nil {
		return cksum.Sums{}, err
	}
	defer in.Close()
	defer work.Begin("file_read", c.file.path)()
	sums, err := cksum.Read(ctx, work.At(meter.Digest).Reader(ctx, in))
	if s := state.StampOf(c.info); err == nil && unchanged(in, s) {
		k.cached.digests.put(s, sums)
	}
	return sums, err
}

// check counts a file and compares its digests with what is claimed of it.
func (k *checker) check(c *content, sums cksum.Sums) {
	c.sums = sums
	k.found.countFile(sums.Size)
	if kind, by, broken := c.brokenClaim(); broken {
		c.bad = true
		problem := Damaged
		if k.records.replaced(c.file.path, state.StampOf(c.info)) {
			problem = Modified
		}
		is := valuesOf(sums)[kind]
		k.found.add(c.file.path, problem, fmt.Sprintf("%s is %s, %s says %s", kinds[kind], short(is), by.from, short(by.values[kind])))
	}
	k.addContradictions(c)
}

func (k *checker) addContradictions(c *content) {
	for _, detail := range c.contradictions() {
		k.found.add(c.file.path, Inconsistent, detail)
	}
}

// brokenClaim returns the first claim that the content does not meet, by the file's
// fault. It is the document's fault, and so a contradiction, where another claim that
// is met says the opposite.
func (c *content) brokenClaim() (kind int, by claim, broken bool) {
	is := valuesOf(c.sums)
	for _, by := range c.file.claims {
		if kind, differs := differ(is, by.values); differs && !c.opposed(by) {
			return kind, by, true
		}
	}
	return 0, claim{}, false
}

// opposed reports whether a claim that the content meets contradicts another.
func (c *content) opposed(other claim) bool {
	is := valuesOf(c.sums)
	return slices.ContainsFunc(c.file.claims, func(o claim) bool {
		_, wrong := differ(is, o.values)
		_, opposite := differ(other.values, o.values)
		return !wrong && opposite
	})
}

// contradictions describes each two claims that contradict each other, and, unless the
// file is bad, which of them is right.
func (c *content) contradictions() (details []string) {
	for i, a := range c.file.claims {
		for _, b := range c.file.claims[i+1:] {
			kind, differs := differ(a.values, b.values)
			if !differs {
				continue
			}
			detail := fmt.Sprintf("%s is %s in %s and %s in %s", kinds[kind], short(a.values[kind]), a.from, short(b.values[kind]), b.from)
			if !c.bad {
				right := a.from
				if _, wrong := differ(valuesOf(c.sums), a.values); wrong {
					right = b.from
				}
				detail += "; the file agrees with " + right
			}
			details = append(details, detail)
		}
	}
	return details
}

// records are those of the builder, by the names of files.
type records map[string]*state.Record

// loadRecords reads the records. Without them less can be said of a file, but nothing
// wrong.
func loadRecords(dir *state.Dir, found *findings) records {
	all, _, err := dir.Load()
	if err != nil {
		found.add(mirror.StateDir, Note, "the records cannot be read: "+err.Error())
	}
	return all
}

// of returns the record of the file at a path, nil if it has none.
func (r records) of(p string) *state.Record {
	name, ours := ourName(p)
	if !ours {
		return nil
	}
	return r[name]
}

// replaced reports whether the file at a path, of which this is the stamp, is not the
// one that was recorded. The record of an image has the stamp of its source, which is
// also that of the mirror's file where it is a link.
func (r records) replaced(p string, s state.Stamp) bool {
	record := r.of(p)
	if !record.Summed() {
		return false
	}
	_, source := record.Stamp.Renamed(s) // another link to the source changes its change time
	_, copied := record.Copy.Renamed(s)
	return !source && !copied
}
