package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/testdata"
)

const mib = 1 << 20

// tools skips the test where QEMU's tools or nbdinfo are missing.
func tools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"qemu-img", "qemu-io", "qemu-nbd", "nbdinfo"} {
		testdata.Tool(t, tool)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// content returns 3 MiB of a disk, of which the second is zeros.
func content() []byte {
	b := make([]byte, 3*mib)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b[:mib])
	r.Read(b[2*mib:])
	return b
}

// files makes disks of the content in a directory, which it returns: disk.img, raw with a hole,
// and disk.qcow2, with the bitmaps began, which says that 64 KiB at 2 MiB changed, and full.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	raw, qcow2 := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk.qcow2")
	f, err := os.Create(raw)
	must(t, err)
	_, err = f.WriteAt(content()[:mib], 0)
	_, errEnd := f.WriteAt(content()[2*mib:], 2*mib)
	must(t, err, errEnd, f.Close())
	testdata.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
	part := filepath.Join(dir, "part")
	must(t, os.WriteFile(part, content()[2*mib:2*mib+65536], 0o666))
	testdata.Run(t, "qemu-img", "bitmap", "--add", qcow2, "began")
	testdata.Run(t, "qemu-io", "-c", "write -s "+part+" 2M 64k", qcow2)
	return dir
}

// serve serves a disk by qemu-nbd for the time of the test, and returns the address of its export.
func serve(t *testing.T, args ...string) (address string) {
	t.Helper()
	dir, err := shortDir()
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-nbd", append([]string{"--persistent", "--shared=0", "--socket=" + socket}, args...)...)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 2000 {
		if _, err := os.Stat(socket); err == nil {
			return "nbd+unix:///?socket=" + socket
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("qemu-nbd does not begin to serve")
	return ""
}

// What a disk is read as, and what is known of it.
func TestOpen(t *testing.T) {
	tools(t)
	dir := files(t)
	temporary, err := shortDir()
	must(t, err)
	defer os.RemoveAll(temporary)
	t.Setenv("TMPDIR", temporary)
	raw, qcow2 := filepath.Join(dir, "disk.img"), filepath.Join(dir, "disk.qcow2")
	odd := filepath.Join(dir, `a "b",file=x.qcow2`)
	testdata.Run(t, "cp", qcow2, odd)
	small := filepath.Join(dir, "small.img")
	must(t, os.WriteFile(small, content()[:1000], 0o666))
	first := extents.Map{{Offset: 0, Length: mib}, {Offset: mib, Length: mib, Set: true}, {Offset: 2 * mib, Length: mib}}
	dirty := extents.Map{{Offset: 0, Length: 2 * mib}, {Offset: 2 * mib, Length: 65536, Set: true}, {Offset: 2*mib + 65536, Length: mib - 65536}}
	for _, c := range []struct {
		name   string
		spec   Spec
		bitmap string
		size   int
		zero   extents.Map
		dirty  extents.Map
		why    string
	}{
		{"raw", Spec{Format: Raw, Source: raw}, "began", 3 * mib, first, nil, "a raw disk has no bitmap"},
		{"raw, without a bitmap", Spec{Format: Raw, Source: raw}, "", 3 * mib, first, nil, "a raw disk has no bitmap"},
		{"raw of an odd size", Spec{Format: Raw, Source: small}, "", 1000, nil, nil, "a raw disk has no bitmap"},
		{"raw on a loop device", Spec{Format: Raw, Source: testdata.Loop(t, raw, "--read-only")}, "", 3 * mib, nil, nil, "a raw disk has no bitmap"},
		{"qcow2", Spec{Format: QCOW2, Source: qcow2}, "began", 3 * mib, first, dirty, ""},
		{"qcow2, without a bitmap", Spec{Format: QCOW2, Source: qcow2}, "", 3 * mib, first, nil, ""},
		{"qcow2, another bitmap", Spec{Format: QCOW2, Source: qcow2}, "other", 3 * mib, first, nil, "the disk has no bitmap other"},
		{"qcow2 of an odd name", Spec{Format: QCOW2, Source: odd}, "began", 3 * mib, first, dirty, ""},
		{"an export", Spec{Format: NBD, Source: serve(t, "--read-only", "--bitmap=began", "--format=qcow2", odd)}, "began", 3 * mib, first, dirty, ""},
		{"an export without the bitmap", Spec{Format: NBD, Source: serve(t, "--read-only", "--format=raw", raw)}, "began", 3 * mib, first, nil, "the export has no bitmap began"},
	} {
		d, err := Open(t.Context(), c.spec, c.bitmap)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := make([]byte, d.Size)
		_, err = d.ReadAt(got, 0)
		if err != nil || d.Size != int64(c.size) || !bytes.Equal(got, content()[:c.size]) {
			t.Errorf("%s: %d bytes, %v", c.name, d.Size, err)
		}
		if fmt.Sprint(d.Zero) != fmt.Sprint(c.zero) && c.name != "raw of an odd size" || fmt.Sprint(d.Dirty) != fmt.Sprint(c.dirty) || d.Why != c.why {
			t.Errorf("%s: zero %v, dirty %v, %q", c.name, d.Zero, d.Dirty, d.Why)
		}
		if err := d.Unchanged(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		d.Close()
		d.Close() // a second time is nothing
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "puavo-nbd-*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}

// What is not read: since it may be something else, names another file, or is in use.
func TestRefused(t *testing.T) {
	tools(t)
	dir := files(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	create := func(name string, args ...string) {
		args = append(append([]string{"create", "-q", "-f", "qcow2"}, args...), path(name))
		if !strings.Contains(strings.Join(args, " "), " -b ") {
			args = append(args, "1M")
		}
		testdata.Run(t, "qemu-img", args...)
	}
	create("over.qcow2", "-F", "raw", "-b", "/etc/passwd")
	create("chain.qcow2", "-F", "qcow2", "-b", path("disk.qcow2"))
	create("data.qcow2", "-o", "data_file="+path("data.raw"))
	create("aes.qcow2", "--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s")
	must(t, os.WriteFile(path("short.qcow2"), []byte(qcow2Magic), 0o666), os.WriteFile(path("text.qcow2"), []byte("some text, no disk"), 0o666),
		os.WriteFile(path("empty.img"), nil, 0o666), exec.Command("mkfifo", path("pipe")).Run())
	testdata.Run(t, "cp", path("disk.qcow2"), path("guest.img"))
	testdata.Run(t, "cp", path("disk.qcow2"), path("used.qcow2"))
	serve(t, "--format=qcow2", path("used.qcow2"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, spec string
		refused    bool
		want       string
	}{
		{"a backing file", "over.qcow2", true, `rests on another file, "/etc/passwd"`},
		{"a backing file of a chain", "chain.qcow2", true, "rests on another file"},
		{"a data file", "data.qcow2", true, "rests on another file"},
		{"encrypted", "aes.qcow2", true, "encrypted"},
		{"qcow2 that is cut", "short.qcow2", false, "qemu-img: exit status"},
		{"qcow2 that is none", "text.qcow2", true, "does not begin as a qcow2 file does"},
		{"raw that begins as qcow2", "guest.img", true, "say qcow2:" + path("guest.img") + ", or raw:"},
		{"written to by another program", "used.qcow2", false, "lock"},
		{"empty", "empty.img", true, "it is empty"},
		{"a directory", ".", true, "directory"},
		{"a pipe", "pipe", true, "pipe"},
		{"a pipe as qcow2", "qcow2:pipe", true, "pipe"},
		{"a character device", "/dev/null", true, "device"},
		{"nothing", "missing.img", false, "no such file"},
		{"nothing as qcow2", "missing.qcow2", false, "no such file"},
		{"no server", "nbd+unix:///?socket=" + path("missing"), false, "no such file"},
	} {
		spec, err := ParseSpec("vda=" + place(c.spec, dir))
		must(t, err)
		testdata.Promptly(t, c.name, func() {
			d, err := Open(t.Context(), spec, "began")
			if err == nil {
				d.Close()
			}
			if err == nil || errors.Is(err, ErrRefused) != c.refused || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		if _, err := Open(cancelled, spec, ""); err == nil {
			t.Errorf("%s, cancelled: no error", c.name)
		}
	}
	for _, source := range []string{path("disk.img"), path("disk.qcow2"), serve(t, "--read-only", "--format=raw", path("disk.img"))} {
		spec, err := ParseSpec("vda=" + source)
		must(t, err)
		if _, err := Open(cancelled, spec, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", source, err)
		}
	}
	spec, err := ParseSpec("raw:" + path("guest.img"))
	must(t, err)
	if d, err := Open(t.Context(), spec, ""); err != nil {
		t.Errorf("raw that begins as qcow2, as raw: %v", err)
	} else {
		d.Close()
	}
}

// place returns a disk whose path is taken from a directory.
func place(spec, dir string) string {
	format, name, has := strings.Cut(spec, ":")
	switch {
	case strings.HasPrefix(spec, "nbd"), filepath.IsAbs(spec):
		return spec
	case has:
		return format + ":" + filepath.Join(dir, name)
	}
	return filepath.Join(dir, spec)
}

// A header is enough to refuse a file that rests on another: no tool opens it.
func TestCheckHeader(t *testing.T) {
	header := func(version byte, set map[int]byte) []byte {
		b := append([]byte(qcow2Magic), make([]byte, 200)...)
		b[7] = version
		for at, v := range set {
			b[at] = v
		}
		copy(b[150:], "/etc/shadow\x1b")
		return b
	}
	for _, c := range []struct {
		name   string
		header []byte
		want   string
	}{
		{"right", header(3, nil), ""},
		{"of version 2, which has no features", header(2, map[int]byte{79: externalData}), ""},
		{"a bitmap", header(3, map[int]byte{95: 1}), ""},
		{"a backing file", header(3, map[int]byte{15: 150, 19: 12}), `"/etc/shadow\x1b"`},
		{"a backing file of version 2", header(2, map[int]byte{15: 150, 19: 12}), `"/etc/shadow\x1b"`},
		{"a backing file that is not there", header(3, map[int]byte{8: 0x80, 16: 0xff}), "rests on another file"},
		{"a data file", header(3, map[int]byte{79: externalData | 1}), "rests on another file"},
		{"encrypted", header(3, map[int]byte{35: 1}), "encrypted"},
		{"something else", []byte("QFI\xfa"), "does not begin"},
		{"empty", nil, "does not begin"},
	} {
		file := filepath.Join(t.TempDir(), "disk.qcow2")
		must(t, os.WriteFile(file, c.header, 0o666))
		err := checkHeader(file)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A raw file that somebody writes to is noticed.
func TestUnchanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.img")
	for name, change := range map[string]func() error{
		"written to": func() error { return os.WriteFile(file, content(), 0o666) },
		"cut":        func() error { return os.Truncate(file, mib) },
		"touched":    func() error { return os.Chtimes(file, time.Time{}, time.Unix(1e9, 0)) },
	} {
		must(t, os.WriteFile(file, content(), 0o666), os.Chtimes(file, time.Time{}, time.Unix(1e9+5, 0)))
		d, err := Open(t.Context(), Spec{Format: Raw, Source: file}, "")
		must(t, err, d.Unchanged(), change())
		if err := d.Unchanged(); err == nil || !strings.Contains(err.Error(), "was written to while it was read") {
			t.Errorf("%s: %v", name, err)
		}
		d.Close()
	}
}

// Tools that are missing, fail, or print something else, cost a backup or a map, and no more.
func TestTools(t *testing.T) {
	tools(t)
	dir := files(t)
	raw := "disk.img"
	export := serve(t, "--read-only", "--bitmap=began", "--format=qcow2", filepath.Join(dir, "disk.qcow2"))
	json := func(size int) string {
		return fmt.Sprintf(`{"exports":[{"export-size":%d,"contexts":["base:allocation","qemu:dirty-bitmap:began"]}]}`, size)
	}
	real := make(map[string]string)
	for _, tool := range []string{"qemu-img", "qemu-nbd", "nbdinfo", "sh", "yes", "head"} {
		path, err := exec.LookPath(tool)
		must(t, err)
		real[tool] = path
	}
	// nbdinfo prints one thing about the export, and another as its map.
	nbdinfo := func(info, maps string) string {
		return "case $* in *--map*) " + maps + ";; *) " + info + ";; esac"
	}
	for _, c := range []struct {
		name, source, tool, script string
		want                       string // "": it is read
		err                        error
	}{
		{"qemu-img is missing", "disk.qcow2", "qemu-img", "", "install it: in Debian the package qemu-utils has it", exec.ErrNotFound},
		{"qemu-nbd is missing", "disk.qcow2", "qemu-nbd", "", "install it: in Debian the package qemu-utils has it", exec.ErrNotFound},
		{"nbdinfo is missing", "disk.qcow2", "nbdinfo", "", "install it: in Debian the package libnbd-bin has it", exec.ErrNotFound},
		{"nbdinfo is missing for an export", export, "nbdinfo", "", "libnbd-bin", exec.ErrNotFound},
		{"qemu-img is missing, which a raw disk can do without", raw, "qemu-img", "", "", nil},
		{"qemu-img prints garbage about a raw disk", raw, "qemu-img", "echo garbage", "", nil},
		{"qemu-img prints another map of a raw disk", raw, "qemu-img", `echo '[{"start":0,"length":5,"zero":true}]'`, "", nil},
		{"qemu-img prints garbage", "disk.qcow2", "qemu-img", "echo garbage", "qemu-img: ", extents.ErrFormat},
		{"qemu-img says that it is another format", "disk.qcow2", "qemu-img", `echo '{"virtual-size":3145728,"format":"raw"}'`, "is no qcow2", extents.ErrFormat},
		{"qemu-img prints without end", "disk.qcow2", "qemu-img", "exec yes", "prints more than 16 MiB", extents.ErrFormat},
		{"qemu-img fails", "disk.qcow2", "qemu-img", `printf 'no \033[1m luck' >&2; exit 3`, `qemu-img: exit status 3: no \x1b[1m luck`, nil},
		{"qemu-img fails with a long message", "disk.qcow2", "qemu-img", `yes | head -c 100000 >&2; exit 3`, "qemu-img: exit status 3: y", nil},
		{"qemu-img sees a backing file", "disk.qcow2", "qemu-img", `echo '{"virtual-size":3145728,"format":"qcow2","backing-filename":"/x"}'`, `another file, "/x"`, ErrRefused},
		{"qemu-img sees that it is encrypted", "disk.qcow2", "qemu-img", `echo '{"virtual-size":3145728,"format":"qcow2","encrypted":true}'`, "encrypted", ErrRefused},
		{"qemu-nbd fails", "disk.qcow2", "qemu-nbd", "echo no luck >&2; exit 3", "qemu-nbd: exit status 3: no luck", nil},
		{"qemu-nbd ends at once", "disk.qcow2", "qemu-nbd", "exit 0", "qemu-nbd", nil},
		{"nbdinfo prints garbage", export, "nbdinfo", "echo garbage", "nbdinfo: ", extents.ErrFormat},
		{"nbdinfo prints nothing", export, "nbdinfo", "true", "nbdinfo: ", extents.ErrFormat},
		{"nbdinfo prints without end", export, "nbdinfo", "exec yes", "prints more than 16 MiB", extents.ErrFormat},
		{"nbdinfo sees another size", export, "nbdinfo", "echo '" + json(mib) + "'", "the export has 3145728 bytes, and for nbdinfo 1048576", extents.ErrFormat},
		{"nbdinfo prints a map with a gap", export, "nbdinfo", nbdinfo("echo '"+json(3*mib)+"'", `echo '[{"offset":5,"length":3145723,"type":0}]'`), "nbdinfo --map=base:allocation: ", extents.ErrFormat},
		{"nbdinfo fails at a map", export, "nbdinfo", nbdinfo("echo '"+json(3*mib)+"'", "exit 4"), "nbdinfo: exit status 4", nil},
		{"nbdinfo prints more than is known", export, "nbdinfo", "exec " + real["nbdinfo"] + ` "$@"`, "", nil},
	} {
		bin := t.TempDir()
		for tool, path := range real {
			must(t, os.Symlink(path, filepath.Join(bin, tool)))
		}
		must(t, os.Remove(filepath.Join(bin, c.tool)))
		if c.script != "" {
			must(t, os.WriteFile(filepath.Join(bin, c.tool), []byte("#!/bin/sh\n"+c.script+"\n"), 0o777))
		}
		t.Setenv("PATH", bin)
		spec, err := ParseSpec("vda=" + place(c.source, dir))
		must(t, err)
		testdata.Promptly(t, c.name, func() {
			d, err := Open(t.Context(), spec, "began")
			if err == nil {
				d.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || c.err != nil && !errors.Is(err, c.err) || len(err.Error()) > 3*maxStderr) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
}

// A tool that hangs ends when its caller does.
func TestToolHangs(t *testing.T) {
	tools(t)
	dir := files(t)
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "qemu-img"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o777))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, name := range []string{"disk.img", "disk.qcow2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		spec, err := ParseSpec("vda=" + filepath.Join(dir, name))
		must(t, err)
		testdata.Promptly(t, name, func() {
			if _, err := Open(ctx, spec, ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		})
		cancel()
	}
}

func TestParseSpec(t *testing.T) {
	for _, c := range []struct {
		text string
		want Spec
		ok   bool
	}{
		{"/srv/web.img", Spec{"web", Raw, "/srv/web.img", false}, true},
		{"vda=/srv/web.img", Spec{"vda", Raw, "/srv/web.img", false}, true},
		{"web.qcow2", Spec{"web", QCOW2, "web.qcow2", false}, true},
		{"vda=qcow2:web.img", Spec{"vda", QCOW2, "web.img", true}, true},
		{"raw:web.qcow2", Spec{"web", Raw, "web.qcow2", true}, true},
		{"/dev/sda", Spec{"sda", Raw, "/dev/sda", false}, true},
		{"vda=/srv/a=b.img", Spec{"vda", Raw, "/srv/a=b.img", false}, true},
		{"/srv/a=b.img", Spec{}, false}, // whose name is a=b
		{"nbd://host:10809/vda", Spec{"vda", NBD, "nbd://host:10809/vda", false}, true},
		{"x=nbd+unix:///vda?socket=/run/s", Spec{"x", NBD, "nbd+unix:///vda?socket=/run/s", false}, true},
		{"nbd://host", Spec{}, false}, // an export without a name
		{"nbds://host/vda", Spec{}, false},
		{"", Spec{}, false},
		{"vda=", Spec{}, false},
		{"vda=raw:", Spec{"vda", Raw, "raw:", false}, true}, // a file of this name
		{"../..", Spec{}, false},
		{"/", Spec{}, false},
	} {
		got, err := ParseSpec(c.text)
		if (err == nil) != c.ok || err == nil && got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
}

// shortDir makes a directory whose path is short, as that of a socket must be.
func shortDir() (string, error) { return os.MkdirTemp("", "disk") }
