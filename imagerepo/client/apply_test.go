package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/testdata"
)

// deltaPath returns the path of a delta in the mirror that has all.
func deltaPath(base, target string) string {
	buildMirrors()
	return filepath.Join(mirrorDir("all"), filepath.FromSlash(deltaFile(base, target)))
}

func sha512Of(data []byte) cksum.Digest512 { return sumsOf(data).SHA512 }

// given has an image checked by some digests.
func given(o *client.ApplyOptions, of cksum.Sums, names ...string) {
	for _, name := range names {
		switch name {
		case "blake3":
			o.BLAKE3 = of.BLAKE3
		case "sha256":
			o.SHA256 = of.SHA256
		case "sha512":
			o.SHA512 = of.SHA512
		}
	}
}

// chain makes image4 of image1 over the images between them.
func chain(p *place) client.ApplyOptions {
	return client.ApplyOptions{
		Base:   filepath.Join(p.dir, image1),
		Deltas: []string{deltaPath(image1, image2), deltaPath(image2, image3), deltaPath(image3, image4)},
		Out:    filepath.Join(p.dir, "new.img"),
	}
}

// TestApply makes what stock rdiff makes, from our deltas and from its own.
func TestApply(t *testing.T) {
	rdiff := filepath.Join(t.TempDir(), "by rdiff")
	testdata.Run(t, "rdiff", "signature", testdata.Path("images/"+image3), rdiff+".sig")
	testdata.Run(t, "rdiff", "delta", rdiff+".sig", testdata.Path("images/"+image4), rdiff)
	for _, c := range []struct {
		name   string
		base   string
		deltas []string
		want   string
	}{
		{"one", image1, []string{deltaPath(image1, image4)}, image4},
		{"two", image1, []string{deltaPath(image1, image2), deltaPath(image2, image4)}, image4},
		{"three", image1, []string{deltaPath(image1, image2), deltaPath(image2, image3), deltaPath(image3, image4)}, image4},
		{"there and back", image3, []string{deltaPath(image3, image4), deltaPath(image4, image3)}, image3},
		{"by rdiff", image3, []string{rdiff}, image4},
		{"by both", image1, []string{deltaPath(image1, image3), rdiff, deltaPath(image4, image2)}, image2},
	} {
		for _, digests := range [][]string{nil, {"blake3"}, {"sha256"}, {"sha512"}, {"blake3", "sha256", "sha512"}} {
			t.Run(fmt.Sprintf("%s/%v", c.name, digests), func(t *testing.T) {
				p := newPlace(t, c.base)
				want := p.files()
				out, stock := filepath.Join(p.dir, "new.img"), testdata.Path("images/"+c.base)
				var done, total int64
				o := client.ApplyOptions{
					Base: filepath.Join(p.dir, c.base), Deltas: c.deltas, Out: out,
					Progress: func(d, of int64) {
						if d < done {
							t.Errorf("progress %d after %d", d, done)
						}
						done, total = d, of
					},
				}
				given(&o, sumsOf(imageData(c.want)), digests...)
				err := client.Apply(t.Context(), o)
				if err != nil || done != total || done < int64(len(imageData(c.want))) {
					t.Errorf("%v, progress ends with %d of %d", err, done, total)
				}
				dir := t.TempDir()
				for i, d := range c.deltas {
					next := filepath.Join(dir, fmt.Sprint(i))
					testdata.Run(t, "rdiff", "patch", stock, d, next)
					stock = next
				}
				want["new.img"] = string(must(os.ReadFile(stock)))
				p.want(want)
			})
		}
	}
}

// wrongOne has a digest be wrong, and the others right.
func wrongOne(name string) func(*place, *client.ApplyOptions) {
	return func(_ *place, o *client.ApplyOptions) {
		given(o, sumsOf(imageData(image4)), "blake3", "sha256", "sha512")
		given(o, sumsOf(imageData(image3)), name)
	}
}

// Nothing is made by halves, and the error names what is wrong.
func TestApplyFails(t *testing.T) {
	const magic = "rs\x02\x36"
	bad := func(at int, data string) func(*place, *client.ApplyOptions) {
		return func(p *place, o *client.ApplyOptions) {
			p.write("bad", []byte(data))
			o.Deltas[at] = filepath.Join(p.dir, "bad")
		}
	}
	whole := string(must(os.ReadFile(deltaPath(image3, image4))))
	for _, c := range []struct {
		name   string
		change func(p *place, o *client.ApplyOptions)
		err    error
		says   string
	}{
		{"wrong digest", func(p *place, o *client.ApplyOptions) { o.SHA512 = sha512Of(imageData(image3)) }, client.ErrVerify, image1},
		{"wrong BLAKE3", wrongOne("blake3"), client.ErrVerify, "its BLAKE3 is "},
		{"wrong SHA-256", wrongOne("sha256"), client.ErrVerify, "its SHA-256 is "},
		{"wrong SHA-512", wrongOne("sha512"), client.ErrVerify, "its SHA-512 is "},
		{"other base of the same size", func(p *place, o *client.ApplyOptions) {
			p.write(image1, make([]byte, len(imageData(image1))))
			o.SHA512 = sha512Of(imageData(image4))
		}, client.ErrVerify, "right base"},
		{"base too short", func(p *place, o *client.ApplyOptions) { p.write(image1, imageData(image1)[:100_000]) }, delta.ErrFormat, "this one has 100000"},
		{"deltas that do not follow", func(p *place, o *client.ApplyOptions) { o.Deltas = slices.Insert(o.Deltas, 1, o.Deltas[2]) }, delta.ErrFormat, "it needs a base of"},
		{"first is no delta", bad(0, "<!DOCTYPE html>"), delta.ErrFormat, "/bad"},
		{"second is empty", bad(1, ""), delta.ErrFormat, "/bad"},
		{"last is cut", bad(2, whole[:len(whole)-1]), delta.ErrFormat, "/bad"},
		{"last goes on after its end", bad(2, whole+"x"), delta.ErrFormat, "/bad"},
		{"copy from 2^63-1", bad(1, magic+"\x51\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x00"), delta.ErrFormat, "/bad"},
		{"no deltas", func(p *place, o *client.ApplyOptions) { o.Deltas = nil }, nil, "no deltas"},
		{"no base", func(p *place, o *client.ApplyOptions) { o.Base += "x" }, fs.ErrNotExist, image1 + "x"},
		{"missing delta", func(p *place, o *client.ApplyOptions) { o.Deltas[1] += "x" }, fs.ErrNotExist, ".rdiffx"},
		{"a directory for a delta", func(p *place, o *client.ApplyOptions) { o.Deltas[2] = p.t.TempDir() }, nil, "is not a regular file"},
		{"a pipe for a delta", func(p *place, o *client.ApplyOptions) { o.Deltas[1] = pipe(p.t) }, nil, "is not a regular file"},
		{"a pipe for a base", func(p *place, o *client.ApplyOptions) { o.Base = pipe(p.t) }, nil, "is not a regular file"},
		{"a device for a base", func(p *place, o *client.ApplyOptions) { o.Base = "/dev/zero" }, nil, "/dev/zero is not a regular file"},
		{"more than 64 GiB from 22 bytes", func(p *place, o *client.ApplyOptions) { grow(p, o, 40<<30, 1, 2) }, nil, "grow1 makes 85899345920 bytes; without a digest of the new image, at most 68719476736"},
		{"more than 64 GiB on the way", func(p *place, o *client.ApplyOptions) {
			grow(p, o, 40<<30, 1, 2)
			p.write("grow2", []byte(magic+"\x45\x00\x01\x00"))
			o.Deltas = append(o.Deltas, filepath.Join(p.dir, "grow2"))
		}, nil, "grow1 makes 85899345920 bytes; without a digest of the new image, at most 68719476736"},
		{"over 2^63 bytes in all", func(p *place, o *client.ApplyOptions) {
			grow(p, o, 1<<30, 4, 2000) // of these the last makes less itself
			o.SHA512 = sha512Of(nil)
		}, delta.ErrFormat, "grow4: not valid: "},
		{"more than the disk has", func(p *place, o *client.ApplyOptions) {
			grow(p, o, 1<<40, 3, 100)
			o.SHA512 = sha512Of(nil)
		}, syscall.ENOSPC, "the deltas need 1110506744053760000 bytes at once, and "},
		{"out is there", func(p *place, o *client.ApplyOptions) { p.write("new.img", nil) }, fs.ErrExist, "new.img"},
		{"out is a dangling link", func(p *place, o *client.ApplyOptions) {
			if err := os.Symlink("none", o.Out); err != nil {
				p.t.Fatal(err)
			}
			p.t.Cleanup(func() { os.Remove(o.Out) })
		}, fs.ErrExist, "new.img"},
		{"no directory for out", func(p *place, o *client.ApplyOptions) { o.Out = filepath.Join(p.dir, "none", "new.img") }, fs.ErrNotExist, "none"},
		{"a file for a directory for out", func(p *place, o *client.ApplyOptions) { o.Out = filepath.Join(p.dir, image1, "new.img") }, syscall.ENOTDIR, image1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image1)
			o := chain(p)
			c.change(p, &o)
			before := p.links()
			err := client.Apply(t.Context(), o)
			if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v that says %q", err, c.err, c.says)
			}
			if after := p.links(); after != before {
				t.Errorf("in the directory are\n%s, were\n%s", after, before)
			}
		})
	}
}

// grow makes deltas, each of which copies all of its base so many times, and a base
// without content.
func grow(p *place, o *client.ApplyOptions, size int64, deltas, times int) {
	o.Base, o.Deltas = filepath.Join(p.dir, "base"), nil
	p.write("base", nil)
	if err := os.Truncate(o.Base, size); err != nil {
		p.t.Fatal(err)
	}
	for n := range deltas {
		d := []byte("rs\x02\x36")
		for range times {
			d = binary.BigEndian.AppendUint64(append(d, 0x48, 0), uint64(size)) // a copy from 0
		}
		size *= int64(times)
		name := fmt.Sprint("grow", n+1)
		p.write(name, append(d, 0))
		o.Deltas = append(o.Deltas, filepath.Join(p.dir, name))
	}
}

// pipe makes a named pipe that nobody writes to.
func pipe(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// links returns what is in the directory without following links.
func (p *place) links() string {
	var b strings.Builder
	for _, e := range must(os.ReadDir(p.dir)) {
		info := must(e.Info())
		fmt.Fprintln(&b, info.Mode(), e.Name(), info.Size(), info.ModTime())
	}
	return b.String()
}

// A base or delta may have any name, and is never written to.
func TestApplyToLikeName(t *testing.T) {
	p := newPlace(t)
	p.write("new.img.tmp", imageData(image3))
	p.write("new.img.rdiff", must(os.ReadFile(deltaPath(image3, image4))))
	want := p.files()
	err := client.Apply(t.Context(), client.ApplyOptions{
		Base:   filepath.Join(p.dir, "new.img.tmp"),
		Deltas: []string{filepath.Join(p.dir, "new.img.rdiff")},
		Out:    filepath.Join(p.dir, "new.img"),
	})
	if err != nil {
		t.Error(err)
	}
	want["new.img"] = imageText(image4)
	p.want(want)
}

// A full disk, whichever image it is full with, is an error and not an image.
func TestApplyFullDisk(t *testing.T) {
	p := newPlace(t, image1)
	o := chain(p)
	for size := 64 << 10; ; size += 128 << 10 {
		disk := newPlaceIn(t, testdata.SmallDisk(t, size))
		o.Out = filepath.Join(disk.dir, "new.img")
		err := client.Apply(t.Context(), o)
		if err == nil {
			disk.want(map[string]string{"new.img": imageText(image4)})
			if size < len(imageData(image3))+len(imageData(image4)) {
				t.Errorf("%d bytes cannot be enough", size)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "are free; make room") {
			t.Fatalf("on a disk of %d bytes: %v", size, err)
		}
		disk.want(map[string]string{})
	}
}

// A disk that another fills meanwhile is an error too, at each image.
func TestApplyDiskFills(t *testing.T) {
	p := newPlace(t, image1)
	for image := range 2 {
		disk := newPlaceIn(t, testdata.SmallDisk(t, 16<<20))
		o := chain(p)
		o.Out = filepath.Join(disk.dir, "new.img")
		calls := 0
		o.Progress = func(int64, int64) {
			if calls++; calls > image {
				fill(t, filepath.Join(disk.dir, "another"))
			}
		}
		if err := client.Apply(t.Context(), o); !errors.Is(err, syscall.ENOSPC) || calls != image+1 {
			t.Errorf("%v after %d calls", err, calls)
		}
		if got := must(os.ReadDir(disk.dir)); len(got) != 1 {
			t.Errorf("on the disk are %v", got)
		}
	}
}

// fill fills a disk with a file.
func fill(t *testing.T, path string) {
	f := must(os.Create(path))
	defer f.Close()
	for _, piece := range []int{64 << 10, 1 << 10, 1} {
		for {
			if _, err := f.Write(make([]byte, piece)); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What another has left under a name that is needed for an instant stays.
func TestApplyKeepsOthers(t *testing.T) {
	p := newPlace(t, image1)
	o := chain(p)
	p.write(".new.img.between.0", []byte("another's"))
	want := p.files()
	if err := client.Apply(t.Context(), o); err != nil {
		t.Error(err)
	}
	want["new.img"] = imageText(image4)
	p.want(want)
}

// At whatever point it is cancelled, with the last byte too, there is no image.
func TestApplyCancelled(t *testing.T) {
	p := newPlace(t, image1)
	before := p.files()
	for point := 0; ; point++ {
		ctx, cancel := context.WithCancel(t.Context())
		if point == 0 {
			cancel()
		}
		calls := 0
		o := chain(p)
		o.Progress = func(int64, int64) {
			if calls++; calls == point {
				cancel()
			}
		}
		err := client.Apply(ctx, o)
		cancel()
		if calls < point {
			if err != nil || point < 4 {
				t.Errorf("%v after %d calls", err, calls)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("point %d: %v", point, err)
		}
		p.want(before)
	}
}

// A delta that changes after it was looked at is an error as any.
func TestApplyDeltaChanges(t *testing.T) {
	p := newPlace(t, image1)
	o := chain(p)
	last := filepath.Join(t.TempDir(), "delta")
	data := must(os.ReadFile(o.Deltas[2]))
	for name, change := range map[string][]byte{
		"cut":    data[:len(data)/2],
		"longer": append(slices.Clone(data), 0),
		"other":  bytes.Repeat([]byte("x"), len(data)),
	} {
		if err := os.WriteFile(last, data, 0o666); err != nil {
			t.Fatal(err)
		}
		o.Deltas[2] = last
		o.Progress = func(int64, int64) { os.WriteFile(last, change, 0o666) }
		before := p.files()
		if err := client.Apply(t.Context(), o); !errors.Is(err, delta.ErrFormat) || !strings.Contains(err.Error(), last) {
			t.Errorf("%s: %v", name, err)
		}
		p.want(before)
	}
}

// Two that make one image at once do not get in each other's way.
func TestApplyTwice(t *testing.T) {
	p := newPlace(t, image1)
	o := chain(p)
	o.Deltas = []string{deltaPath(image1, image4)} // so that it is being made from the first call of Progress on
	started := false
	o.Progress = func(int64, int64) {
		if started {
			return
		}
		started = true
		if err := client.Apply(t.Context(), chain(p)); err != nil {
			t.Error(err)
		}
	}
	if err := client.Apply(t.Context(), o); err != nil || !started {
		t.Errorf("the other one started: %v, %v", started, err)
	}
	p.want(map[string]string{image1: imageText(image1), "new.img": imageText(image4)})
}
