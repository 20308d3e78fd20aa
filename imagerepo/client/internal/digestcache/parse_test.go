package digestcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// What is known is written as the documentation says.
func TestFormat(t *testing.T) {
	k := contents{
		Files:   map[string]entry{imageA: {stamp: stamp{6, 1, 2, 3}, BLAKE3: cksum.Digest256{1}}},
		Pending: name(t, imageB),
	}
	got, err := json.Marshal(k)
	want := `{"files":{"` + imageA + `":{"size":6,"mtime":1,"ctime":2,"inode":3,"blake3":"01` + strings.Repeat("00", 31) + `"}},"pending":"` + imageB + `"}`
	if string(got) != want || err != nil {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	if back := parse(got); !maps.Equal(back.Files, k.Files) || back.Pending != k.Pending {
		t.Errorf("read back %v", back)
	}
	if got, err := json.Marshal(parse(nil)); string(got) != "{}" || err != nil {
		t.Errorf("of nothing: %s, %v", got, err)
	}
}

// Of what earlier versions knew, the SHA-512 was computed of the image. A BLAKE3 next to
// it had only been named with it, so the image is read before it counts.
func TestEarlier(t *testing.T) {
	right, other := sumsOf(imageA), sumsOf(strings.ToUpper(imageA))
	mixed := right // what a mirror has said to an earlier version, which compared the SHA-512
	mixed.BLAKE3 = other.BLAKE3
	for _, c := range []struct {
		name  string
		known cksum.Sums
		want  cksum.Sums
		read  bool
		err   error
	}{
		{"both", right, right, false, nil},
		{"both, and the meta has no BLAKE3", right, without(right, false, true), false, nil},
		{"both, another image", right, other, false, ErrWrong},
		{"a SHA-512", without(right, false, true), right, false, nil},
		{"a BLAKE3", without(right, true, false), right, false, nil},
		{"a BLAKE3, and the meta has none", without(right, true, false), without(right, false, true), true, nil},
		{"a wrong BLAKE3", mixed, right, false, nil},
		{"a wrong BLAKE3, wanted", mixed, without(other, true, false), true, ErrWrong},
		{"a wrong BLAKE3, wanted with its SHA-512", mixed, other, false, ErrWrong},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA)
		info, err := os.Lstat(filepath.Join(dir, imageA))
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(contents{Files: map[string]entry{imageA: newEntry(info, c.known)}})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, dir, fileName+"="+string(data))
		read := false
		err = open(t, dir).Check(t.Context(), imageA, c.want, func(int64, int64) { read = true })
		if read != c.read || !errors.Is(err, c.err) {
			t.Errorf("%s: read %v, %v; want %v, %v", c.name, read, err, c.read, c.err)
		}
	}
}

// Whatever has the name of what is known, images are opened and checked, and a
// wrong one is not right.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(p string) error
	}{
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o666) }},
		{"no JSON", func(p string) error { return os.WriteFile(p, []byte("#!/bin/sh\n"), 0o666) }},
		{"another document", func(p string) error { return os.WriteFile(p, []byte(`[{"files":1}]`), 0o666) }},
		{"null", func(p string) error { return os.WriteFile(p, []byte(`{"files":null,"pending":null}`), 0o666) }},
		{"a bad digest", func(p string) error {
			return os.WriteFile(p, []byte(`{"files":{"`+imageA+`":{"sha512":"xy"}},"pending":"`+imageA+`"}`), 0o666)
		}},
		{"a bad pending", func(p string) error { return os.WriteFile(p, []byte(`{"pending":"../x"}`), 0o666) }},
		{"too large", func(p string) error {
			return os.WriteFile(p, append([]byte(`{"pending":"`+imageA+`"}`), bytes.Repeat([]byte(" "), maxFile)...), 0o666)
		}},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o777) }},
		{"a pipe", func(p string) error { return syscall.Mkfifo(p, 0o666) }},
		{"2 GiB", testdata.Sparse},
		{"a symbolic link", func(p string) error { return os.Symlink("/etc/passwd", p) }},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA)
		if err := c.make(filepath.Join(dir, fileName)); err != nil {
			t.Fatal(err)
		}
		cache := writable(t, dir)
		if cache.Pending() != (meta.Name{}) || len(cache.contents.Files) != 0 {
			t.Errorf("%s: known is %v", c.name, cache.contents)
		}
		if err := cache.Check(t.Context(), imageA, sumsOf(imageA), nil); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if right, known := open(t, dir).Known(imageA, sumsOf(imageA)); !right || !known {
			t.Errorf("%s: afterwards right %v, known %v", c.name, right, known)
		}
	}
}

// damage changes each byte of what is known, and cuts it everywhere.
func damage(data []byte, try func([]byte)) {
	for i := range data {
		try(data[:i])
		for _, b := range []byte{data[i] ^ 1, data[i] ^ 0x20, '0', '"', '}', 0} {
			try(append(append(bytes.Clone(data[:i]), b), data[i+1:]...))
		}
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	cache := writable(t, dir)
	for _, f := range []string{imageA, imageB} {
		if err := cache.Learn(f, sumsOf(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cache.SetPending(name(t, imageB)); err != nil {
		t.Fatal(err)
	}
	damage([]byte(content(dir, fileName)), func(damaged []byte) {
		cache.contents = parse(damaged)
		for _, f := range []string{imageA, imageB} {
			if right, _ := cache.Known(f, sumsOf(strings.ToUpper(f))); right {
				t.Errorf("a wrong file is right: %s", damaged)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	fill(f, dir, imageA+"=wrong")
	cache := open(f, dir)
	right := sumsOf("right")
	f.Add([]byte(`{"files":{"` + imageA + `":{"size":5,"mtime":1,"ctime":2,"inode":3,"sha512":"` + right.SHA512.String() + `"}},"pending":"` + imageB + `"}`))
	f.Add([]byte(`{"files":{"` + imageA + `.tmp":{"size":5,"blake3":"` + right.BLAKE3.String() + `"},"../x":{"blake3":"` + right.BLAKE3.String() + `"}}}`))
	f.Add([]byte(`{"files":{"` + imageA + `":{"size":5,"sha512":"` + right.SHA512.String() + `","blake3":"` + right.BLAKE3.String() + `","sha256":"` + right.BLAKE3.String() + `"}}}`))
	f.Add([]byte(`{"files":{"` + imageA + `":{"size":5,"mtime":1,"ctime":2,"inode":3}}}`))
	f.Add([]byte(`{"files":null,"pending":""}`))
	f.Add([]byte(`{"pending":"os-2022-02-32-000000-amd64.img"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cache.contents = parse(data)
		for file, e := range cache.contents.Files {
			if !isCacheable(file) || e.isEmpty() {
				t.Errorf("known is %q: %v", file, e)
			}
		}
		if n := cache.Pending(); n != (meta.Name{}) {
			if _, err := meta.ParseOldName(n.String()); err != nil {
				t.Error(err)
			}
		}
		if got, known := cache.Known(imageA, right); got {
			t.Errorf("a wrong file is right, known %v", known)
		}
		if err := cache.Check(t.Context(), imageA, right, nil); !errors.Is(err, ErrWrong) {
			t.Errorf("a wrong file: %v", err)
		}
		again, err := json.Marshal(cache.contents)
		if err != nil {
			t.Fatal(err)
		}
		if k := parse(again); k.Pending != cache.contents.Pending || !maps.Equal(k.Files, cache.contents.Files) {
			t.Errorf("%v is read back as %v", cache.contents, k)
		}
	})
}
