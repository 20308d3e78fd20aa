package signature

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const image = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"

func name(t *testing.T) meta.Name {
	t.Helper()
	n, err := meta.ParseName(image)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// place is a mirror with the test image, which left.
type place struct {
	dir string
	im  plan.Image
	log strings.Builder
	Signer
}

func newPlace(t *testing.T) *place {
	t.Helper()
	content := testdata.Read(t, "images/"+image)
	p := &place{dir: filepath.Join(t.TempDir(), "mirror"), im: plan.Image{
		Name: name(t), File: image, Size: int64(len(content)), Action: plan.Retired, Sign: true,
	}}
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	m, err := mirror.Open(p.dir, false, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	known, _, err := ledger.Load(m.State)
	if err != nil {
		t.Fatal(err)
	}
	h := cksum.New()
	h.Write(content)
	if err := errors.Join(os.WriteFile(p.file(image), content, 0o666), known.Put(image, &state.Record{Sums: h.Sums(), Placed: true})); err != nil {
		t.Fatal(err)
	}
	p.Signer = Signer{Root: m.Root, Ledger: known, Progress: meter.New(p.im.Size, nil), Jobs: 2, Log: log}
	return p
}

func (p *place) file(name string) string { return filepath.Join(p.dir, name) }

// observe calls do before each change that the Signer makes.
func (p *place) observe(t *testing.T, do func(atomicfile.Change) error) {
	t.Helper()
	stop := atomicfile.Observe(p.dir, do)
	t.Cleanup(stop)
	root, err := atomicfile.Open(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	p.Root = root
}

// An image is signed as by rdiff if its file is what the record says. If it is not, there
// is no signature, and a warning; a fault of the disk or of the context is an error.
func TestSign(t *testing.T) {
	fails := func(kind atomicfile.Kind) func(*testing.T, *place) {
		return func(t *testing.T, p *place) {
			p.observe(t, func(c atomicfile.Change) error {
				if c.Kind == kind {
					return syscall.EIO
				}
				return nil
			})
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, p *place)
		signed bool
		err    error
		warns  string
	}{
		{"what was published", func(*testing.T, *place) {}, true, nil, ""},
		{"a dead run left a part", func(_ *testing.T, p *place) { os.WriteFile(p.file(mirror.TmpPath(image+".sig")), []byte("x"), 0o666) }, true, nil, ""},
		{"a damaged signature", func(_ *testing.T, p *place) {
			os.WriteFile(p.file(mirror.SignaturePath(p.im.Name)), []byte("x"), 0o666)
		}, true, nil, ""},
		{"not to be signed", func(_ *testing.T, p *place) { p.im.Sign = false }, false, nil, ""},
		{"another content", func(t *testing.T, p *place) {
			data := testdata.Read(t, "images/"+image)
			data[len(data)/2]++
			os.WriteFile(p.file(image), data, 0o666)
		}, false, nil, "differs from what was published under its name"},
		{"a longer file", func(t *testing.T, p *place) {
			os.WriteFile(p.file(image), append(testdata.Read(t, "images/"+image), 0), 0o666)
		}, false, nil, "differs from what was published"},
		{"a shorter file", func(_ *testing.T, p *place) { os.Truncate(p.file(image), 4096) }, false, nil, "differs from what was published"},
		{"a missing file", func(_ *testing.T, p *place) { os.Remove(p.file(image)) }, false, nil, "no such file"},
		{"a link", func(_ *testing.T, p *place) { os.Rename(p.file(image), p.file("x")); os.Symlink("x", p.file(image)) }, false, nil, "a symbolic link"},
		{"it cannot be created", fails(atomicfile.Create), false, syscall.EIO, ""},
		{"it cannot be written", fails(atomicfile.Write), false, syscall.EIO, ""},
		{"it cannot be flushed", fails(atomicfile.Flush), false, syscall.EIO, ""},
		{"it cannot be renamed", fails(atomicfile.Rename), false, syscall.EIO, ""},
		{"cancelled", nil, false, context.Canceled, ""},
		{"cancelled in the middle", func(_ *testing.T, p *place) {}, false, context.Canceled, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.change == nil {
				cancel()
			} else if c.change(t, p); errors.Is(c.err, context.Canceled) {
				p.Progress = meter.New(p.im.Size, func(done, total int64) { cancel() })
			}
			unsigned, err := p.Sign(ctx, []plan.Image{p.im})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || (len(unsigned) == 1) != (c.warns != "") {
				t.Errorf("%v, %v", unsigned, err)
			}
			if got := strings.Count(p.log.String(), "\n"); got > 1 || (got == 1) != (c.warns != "") || !strings.Contains(p.log.String(), c.warns) {
				t.Errorf("it warns %q, want %q", &p.log, c.warns)
			}
			p.check(t, c.signed)
		})
	}
}

// check checks that the signature is that of rdiff, or not there, and that nothing is left.
func (p *place) check(t *testing.T, signed bool) {
	t.Helper()
	got, err := os.ReadFile(p.file(mirror.SignaturePath(p.im.Name)))
	if left, _ := filepath.Glob(p.file(mirror.TmpPath("*"))); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if !signed {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is a signature, %v", err)
		}
		return
	}
	testdata.Tool(t, "rdiff")
	oracle := filepath.Join(t.TempDir(), "sig")
	testdata.Run(t, "rdiff", "-H", "blake2", "-R", "rollsum", "-b", "2048", "-S", "32", "signature", testdata.Path("images/"+image), oracle)
	if want, wantErr := os.ReadFile(oracle); err != nil || wantErr != nil || string(got) != string(want) {
		t.Errorf("another signature than rdiff's: %v, %v", err, wantErr)
	}
	if p.Progress.Done() != p.im.Size {
		t.Errorf("progress counts %d bytes of %d", p.Progress.Done(), p.im.Size)
	}
}

// A read that fails is the fault of the image, a write that fails is not.
func TestWrite(t *testing.T) {
	for _, c := range []struct {
		name     string
		to       io.Writer
		from     io.Reader
		err      error
		unusable bool
	}{
		{"all is well", io.Discard, strings.NewReader("x"), nil, false},
		{"a read fails", io.Discard, iotest.ErrReader(syscall.EIO), syscall.EIO, true},
		{"a write fails", full{}, strings.NewReader(strings.Repeat("x", 1<<20)), syscall.ENOSPC, false},
	} {
		if _, err := write(c.to, c.from); !errors.Is(err, c.err) || errors.Is(err, errUnusable) != c.unusable {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// The signature gets its name when it is flushed; one that is removed is forgotten by the
// disk too, though a run before has removed it.
func TestOrder(t *testing.T) {
	tmp, file := mirror.TmpPath(image+".sig"), mirror.SignaturePath(name(t))
	for _, c := range []struct {
		name string
		do   func(p *place) error
		want []string
	}{
		{"signed", func(p *place) error { _, err := p.Sign(t.Context(), []plan.Image{p.im}); return err },
			[]string{"create " + tmp, "flush " + tmp, "rename " + tmp + " to " + file, "flush dir .repo/signatures"}},
		{"removed", func(p *place) error {
			os.WriteFile(p.file(file), []byte("x"), 0o666)
			return Remove(p.Root, p.im.Name)
		}, []string{"remove " + file, "flush dir .repo/signatures"}},
		{"not there", func(p *place) error { return Remove(p.Root, p.im.Name) }, []string{"flush dir .repo/signatures"}},
	} {
		p := newPlace(t)
		var got []string
		p.observe(t, func(change atomicfile.Change) error {
			if change.Kind != atomicfile.Write {
				got = append(got, change.String())
			}
			return nil
		})
		if err := c.do(p); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v\n got %s\nwant %s", c.name, err, strings.Join(got, ", "), strings.Join(c.want, ", "))
		}
	}
}

// Of several images those that can be signed are.
func TestSignSeveral(t *testing.T) {
	p := newPlace(t)
	gone, err := meta.ParseName("puavo-os-amxa-buster-2021-01-20-173248-amd64.img")
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := p.Sign(t.Context(), []plan.Image{{Name: gone, File: gone.String(), Size: p.im.Size + 1, Sign: true}, p.im})
	if err != nil || !slices.Equal(unsigned, []meta.Name{gone}) {
		t.Errorf("%v, %v", unsigned, err)
	}
	p.check(t, true)
}
