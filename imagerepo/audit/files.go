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
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/state"
)

// readFiles reads all files, the largest first, and checks them.
func (v *verifier) readFiles(ctx context.Context) error {
	var files []*file
	var total int64
	for _, f := range v.files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if v.stat(f); f.info != nil && !v.recall(f) {
			files = append(files, f)
			total += f.info.Size()
		}
	}
	slices.SortFunc(files, func(a, b *file) int {
		return cmp.Or(cmp.Compare(b.info.Size(), a.info.Size()), strings.Compare(a.path, b.path))
	})
	v.planTrials()
	v.meter = meter.New(total+v.trialBytes, v.options.Progress)
	if err := pool.Each(ctx, v.options.Jobs, files, v.readFile); err != nil {
		return err
	}
	v.catchUp(total)
	return nil
}

// stat looks whether a file is there.
func (v *verifier) stat(f *file) {
	info, err := statFile(v.mirror.Root, f.path)
	switch {
	case err == nil:
		f.info = info
		return
	case errors.Is(err, fs.ErrNotExist):
		detail := f.namers()
		if why, ok := errors.AsType[noFile](err); ok {
			detail += "; " + string(why)
		}
		v.found.add(f.path, Missing, detail)
	default:
		v.found.add(f.path, Unreadable, err.Error())
	}
	f.bad = true
	v.contradictions(f)
}

// readFile digests a file and checks it.
func (v *verifier) readFile(ctx context.Context, f *file) error {
	sums, err := v.digest(ctx, f)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		f.bad = true
		v.found.add(f.path, Unreadable, strings.TrimPrefix(err.Error(), "cksum: "))
		v.contradictions(f)
		return nil
	}
	v.checkSums(f, sums)
	return nil
}

// recall checks a file that a look before has read, and reports whether one has.
// Documents are read again.
func (v *verifier) recall(f *file) bool {
	sums, known := v.caches.digests.get(state.StampOf(f.info))
	if known = known && f.document == nil; known {
		v.checkSums(f, sums)
	}
	return known
}

// checkSums counts and checks a file by its digests.
func (v *verifier) checkSums(f *file, sums cksum.Sums) {
	f.sums = sums
	v.found.countFile(sums.Size)
	v.checkContent(f)
	v.contradictions(f)
}

func (v *verifier) digest(ctx context.Context, f *file) (cksum.Sums, error) {
	switch {
	case f.document == nil:
	case f.document.unreadable != nil:
		return cksum.Sums{}, f.document.unreadable
	case f.document.data != nil:
		return cksum.Read(ctx, v.meter.Reader(ctx, bytes.NewReader(f.document.data)))
	}
	in, err := openFile(v.mirror.Root, f.path)
	if err != nil {
		return cksum.Sums{}, err
	}
	defer in.Close()
	sums, err := cksum.Read(ctx, v.meter.Reader(ctx, in))
	if s := state.StampOf(f.info); err == nil && unchanged(in, s) {
		v.caches.digests.put(s, sums)
	}
	return sums, err
}

// checkContent reports whether the content of a file is another than is claimed. A claim
// that is not met is the document's fault, and so a contradiction, where
// another claim that is met says the opposite; if not, it is the file's.
func (v *verifier) checkContent(f *file) {
	is := valuesOf(f.sums)
	for _, c := range f.claims {
		kind, other := differ(is, c.values)
		if !other || f.opposed(c) {
			continue
		}
		f.bad = true
		problem := Damaged
		if v.replaced(f) {
			problem = Modified
		}
		v.found.add(f.path, problem, fmt.Sprintf("%s is %s, %s says %s", kinds[kind], short(is[kind]), c.from, short(c.values[kind])))
		return
	}
}

// opposed reports whether a claim that the file meets contradicts c.
func (f *file) opposed(c claim) bool {
	is := valuesOf(f.sums)
	return slices.ContainsFunc(f.claims, func(o claim) bool {
		_, wrong := differ(is, o.values)
		_, opposite := differ(c.values, o.values)
		return !wrong && opposite
	})
}

// replaced reports whether a file is not the one that was recorded. The record
// of an image is of its source, which the mirror's file is where it is a link.
func (v *verifier) replaced(f *file) bool {
	r := v.record(f.path)
	if r == nil || r.Sums.SHA512 == (cksum.Digest512{}) {
		return false
	}
	stamp := state.StampOf(f.info)
	_, source := r.Stamp.Renamed(stamp) // the change time is another where the other was set back
	_, copied := r.Copy.Renamed(stamp)
	return !source && !copied
}

// contradictions reports each two claims about a file that contradict each other, and
// which of them is right.
func (v *verifier) contradictions(f *file) {
	for i, a := range f.claims {
		for _, b := range f.claims[i+1:] {
			kind, found := differ(a.values, b.values)
			if !found {
				continue
			}
			detail := fmt.Sprintf("%s is %s by %s and %s by %s", kinds[kind], short(a.values[kind]), a.from, short(b.values[kind]), b.from)
			if f.bad {
				v.found.add(f.path, Inconsistent, detail)
				continue
			}
			right := a.from
			if _, wrong := differ(valuesOf(f.sums), a.values); wrong {
				right = b.from
			}
			v.found.add(f.path, Inconsistent, detail+"; the file is as "+right+" says")
		}
	}
}
