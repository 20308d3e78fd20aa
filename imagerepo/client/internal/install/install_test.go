package install

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client/internal/imagedir"
	"puavo-image-repository/meta"
)

const oldImage, newImage = "os-2022-01-17-120001-amd64.img", "os-2022-01-20-173248-amd64.img"

// lock returns a locked directory with two images, of which the old one is the default.
func lock(t *testing.T) *imagedir.Dir {
	t.Helper()
	dir := t.TempDir()
	err := errors.Join(os.WriteFile(filepath.Join(dir, oldImage), []byte("old"), 0o666), os.WriteFile(filepath.Join(dir, newImage), []byte("new"), 0o666),
		os.Link(filepath.Join(dir, oldImage), filepath.Join(dir, "ltsp.img")))
	if err != nil {
		t.Fatal(err)
	}
	d, err := imagedir.Open(dir)
	if err == nil {
		t.Cleanup(func() { d.Close() })
		err = d.Lock()
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whatever fails, what comes after it is not done, the error says whether the image is in
// use, and the next call does all of it again.
func TestInstall(t *testing.T) {
	image, err := meta.ParseName(newImage)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(in *Installer, cancel func())
		inUse  string
		done   string // of begin, pre, post
		err    string // "" for none
	}{
		{"nothing fails", func(*Installer, func()) {}, "new", "begin pre post ", ""},
		{"what else to note", func(in *Installer, _ func()) { in.Begin = func() error { return errors.New("no room") } }, "old", "", "is complete, but was not put to use: no room"},
		{"pre-install", func(in *Installer, _ func()) { in.PreInstall = "false" }, "old", "begin ", "was not put to use: --pre-install \"false\": exit status 1"},
		{"post-install", func(in *Installer, _ func()) { in.PostInstall = "false" }, "new", "begin pre ", "is in use, but --post-install \"false\": exit status 1; the next run tries again"},
		{"the end of the context", func(in *Installer, cancel func()) {
			begin := in.Begin
			in.Begin = func() error { cancel(); return begin() }
		}, "old", "begin ", "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := lock(t)
			log := filepath.Join(t.TempDir(), "log")
			note := func(what string) string { return "f() { printf '" + what + " ' >>" + log + "; }; f" }
			in := Installer{
				Dir: d, DefaultLink: "ltsp.img", GrubLabels: true, PreInstall: note("pre"), PostInstall: note("post"), Log: slog.New(slog.DiscardHandler),
				Begin: func() error { return os.WriteFile(log, []byte("begin "), 0o666) },
			}
			right := in
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c.change(&in, cancel)
			installed, err := in.Install(ctx, image)
			if installed != (c.err == "") || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %v; want %q", installed, err, c.err)
			}
			if done, _ := os.ReadFile(log); string(done) != c.done {
				t.Errorf("done is %q, want %q", done, c.done)
			}
			if link, _ := os.ReadFile(filepath.Join(d.Files.Name(), "ltsp.img")); string(link) != c.inUse {
				t.Errorf("in use is the %s one", link)
			}
			again, err := right.Install(t.Context(), image)
			if again != (c.err != "") || err != nil || !right.IsInUse(image) || d.Digests.Pending() != (meta.Name{}) {
				t.Errorf("again: %v, %v", again, err)
			}
			if _, err := os.Lstat(filepath.Join(d.Files.Name(), image.ID()+".default")); err != nil {
				t.Error(err)
			}
		})
	}
}
