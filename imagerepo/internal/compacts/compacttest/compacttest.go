// Package compacttest puts compact deltas into mirrors, for tests.
package compacttest

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// all are those that were made, by base and target.
var all sync.Map

type made struct {
	content []byte
	info    compact.Info
}

// Make returns the compact delta between two images, without a base if that is nil. It must
// not be changed.
func Make(t testing.TB, base, target []byte) ([]byte, compact.Info) {
	t.Helper()
	key := [2]cksum.Digest256{sumsOf(base).BLAKE3, sumsOf(target).BLAKE3}
	if d, ok := all.Load(key); ok {
		return d.(made).content, d.(made).info
	}
	var b bytes.Buffer
	info, err := compact.Encode(t.Context(), &b, imageOf(base), imageOf(target), compact.Options{
		Effort: delta.Fast, Cores: 1, Scratch: func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") },
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Store(key, made{b.Bytes(), info})
	return b.Bytes(), info
}

func imageOf(b []byte) compact.Image {
	return compact.Image{Bytes: b, Blocks: squashfs.Blocks(b)}
}

// Put makes a compact delta between two images of a mirror, without a base if that is "", and
// publishes it with its record. It returns the name of the file.
func Put(t testing.TB, dir, base, target string) (file string) {
	t.Helper()
	to, _ := meta.ParseOldName(target)
	from, _ := meta.ParseOldName(base)
	file = meta.CompactName(from, to)
	content, record := makeFrom(t, dir, base, target)
	m, err := mirror.Open(dir, true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Root.MkdirAll(mirror.CompactDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Root.Replace(mirror.TmpPath(file), mirror.PathOf(file), content); err != nil {
		t.Fatal(err)
	}
	info, err := m.Root.Stat(mirror.PathOf(file))
	if err != nil {
		t.Fatal(err)
	}
	record.Stamp = state.StampOf(info)
	known, _, err := ledger.Load(m.State)
	if err == nil {
		err = known.Put(file, record)
	}
	if err != nil {
		t.Fatal(err)
	}
	publish(t, m, known, to, meta.Compact{
		File: meta.File{Sums: record.Sums}, Filename: file, Base: from,
		Memory: record.Compact.Memory, Coded: record.Compact.Coded, Unpacked: record.Compact.Unpacked,
	})
	return file
}

// makeFrom makes a compact delta, and its record but for the stamp.
func makeFrom(t testing.TB, dir, base, target string) ([]byte, *state.Record) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	record := new(state.Record)
	var from []byte
	if base != "" {
		from = read(base)
		record.Base = sumsOf(from).BLAKE3
	}
	to := read(target)
	content, info := Make(t, from, to)
	record.Target, record.Sums = sumsOf(to).BLAKE3, sumsOf(content)
	record.Compact = state.Compact{Memory: info.Memory, Coded: info.Coded, Unpacked: info.Unpacked}
	return content, record
}

func sumsOf(b []byte) cksum.Sums {
	h := cksum.New()
	h.Write(b)
	return h.Sums()
}

// publish puts a compact delta into the documents of all series that have its target.
func publish(t testing.TB, m *mirror.Mirror, known *ledger.Ledger, target meta.Name, c meta.Compact) {
	t.Helper()
	docs, err := published.Load(m.Root, known.Has)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Root.Lstat(mirror.Page); err == nil {
		docs.SetPage(published.Page{Ledger: known, Log: slog.New(slog.DiscardHandler)})
	}
	set := false
	for _, s := range docs.All() {
		if im, is := s.Image(target); is {
			c.URLs = []string{strings.TrimSuffix(im.URLs[0], target.String()) + meta.CompactPath(c.Filename)}
			set = docs.SetCompact(s.Name, target, c, cksum.Digest256{}) || set
		}
	}
	if !set {
		t.Fatalf("%s: no series has its images", c.Filename)
	}
	if _, err := docs.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
}
