package lockfile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"puavo-image-repository/testdata"
)

// acquire takes a lock that is free.
func acquire(t *testing.T, dir, name string) *Lock {
	t.Helper()
	lock, err := Acquire(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.f.Close() })
	return lock
}

// byUs is how the line begins that this process writes.
func byUs() string { return fmt.Sprintf("process %d (", os.Getpid()) }

func TestAcquire(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	for range 2 { // the second time the file is there
		lock := acquire(t, dir, "lock")
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		_, err := Acquire(dir, "lock")
		if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), path+" is locked by "+byUs()) {
			t.Errorf("second holder: %v", err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, 0o666) // as others make it
	}
	for _, name := range []string{"none/lock", "../lock"} {
		if _, err := Acquire(dir, name); err == nil {
			t.Errorf("a lock at %s", name)
		}
	}
	if _, err := Acquire(filepath.Join(dir, "none"), "lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a lock in no directory: %v", err)
	}
}

// A lock that a file system cannot take is an error that names it, and says what to do
// where that is known. Nobody has it then.
func TestNoLocks(t *testing.T) {
	t.Cleanup(func() { flock = unix.Flock })
	for errno, advised := range map[unix.Errno]bool{
		unix.ENOLCK: true, unix.ENOSYS: true, unix.EPERM: true, unix.EOPNOTSUPP: true, unix.EIO: true, unix.EBADF: false,
	} {
		dir := t.TempDir()
		flock = func(int, int) error { return errno }
		_, err := Acquire(dir, "lock")
		if !errors.Is(err, errno) || errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "locking "+filepath.Join(dir, "lock")+": ") {
			t.Errorf("%v: %v", errno, err)
		}
		says := strings.Contains(err.Error(), "move its directory to a local disk, or run the lock daemon")
		if says != advised {
			t.Errorf("%v: advised %v: %v", errno, says, err)
		}
		if who, held := Holder(dir, "lock"); held {
			t.Errorf("%v: held by %s", errno, who)
		}
		flock = unix.Flock
		acquire(t, dir, "lock").Release()
	}
}

// What the holder says is what those hear who have to wait, and the last of it counts.
func TestSay(t *testing.T) {
	dir := t.TempDir()
	lock := acquire(t, dir, "lock")
	for _, c := range []struct{ says, heard string }{
		{"making a.img", "making a.img"},
		{"making b.img at 1 MB/s, 3h left", "making b.img at 1 MB/s, 3h left"},
		{"c", "c"},
		{"a\nb\x1b[31m", "a?b?[31m"},
		{strings.Repeat("x", 1000), strings.Repeat("x", maxWork)},
	} {
		lock.Say(c.says)
		who, held := Holder(dir, "lock")
		if begin, end, _ := strings.Cut(who, ", "); !held || !strings.HasPrefix(begin, byUs()) || end != c.heard {
			t.Errorf("%q is heard as %q", c.says, who)
		}
	}
	lock.f.Close() // as if it had died
	lock = acquire(t, dir, "lock")
	if who, _ := Holder(dir, "lock"); strings.Contains(who, ", ") {
		t.Errorf("the next holder: %q", who)
	}
	lock.Say("something")
	lock.Release()
	if data, err := os.ReadFile(filepath.Join(dir, "lock")); err != nil || len(strings.TrimSpace(string(data))) > 0 {
		t.Errorf("after the end: %q, %v", data, err)
	}
}

// The shell's flock(1), which installed tools use, and we keep each other out.
func TestShell(t *testing.T) {
	testdata.Tool(t, "flock")
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	lock := acquire(t, dir, "lock")
	if err := exec.Command("flock", "-nx", path, "true").Run(); err == nil {
		t.Error("flock takes the lock that we hold")
	}
	lock.Release()
	cmd := exec.Command("flock", "-nx", path, "sh", "-c", "echo got it; read end")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 6))
	if _, err := Acquire(dir, "lock"); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("while flock holds it: %v", err)
	}
	if who, held := Holder(dir, "lock"); !held || who != "another process" {
		t.Errorf("while flock holds it: %q, %v", who, held)
	}
	in.Close()
	cmd.Wait()
	acquire(t, dir, "lock").Release()
}

// On a disk without room for a line about the holder the lock is held all the same.
func TestFullDisk(t *testing.T) {
	for _, content := range []string{"", "process 7 (x) since 2026-01-02 03:04:05\n"} {
		dir := testdata.SmallDisk(t, 64<<10)
		os.WriteFile(filepath.Join(dir, "lock"), []byte(content), 0o600)
		os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o666)
		lock := acquire(t, dir, "lock")
		if _, err := Acquire(dir, "lock"); !errors.Is(err, ErrHeld) {
			t.Errorf("%q: second holder: %v", content, err)
		}
		if who, held := Holder(dir, "lock"); !held || content != "" && !strings.HasPrefix(who, byUs()) {
			t.Errorf("%q: %q, %v", content, who, held)
		}
		if err := lock.Release(); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// What is no lock is refused, at once, and left as it is; so is what it leads to.
func TestRefused(t *testing.T) {
	const content = "precious\n"
	for _, c := range []struct {
		name, says string
		make       func(lock, other string) error
	}{
		{"a link to a file", "a symbolic link", func(lock, other string) error { return os.Symlink(filepath.Base(other), lock) }},
		{"a link out of the directory", "a symbolic link", func(lock, _ string) error { return os.Symlink(os.DevNull, lock) }},
		{"a link to nothing", "a symbolic link", func(lock, _ string) error { return os.Symlink("none", lock) }},
		{"a hard link", "2 names", func(lock, other string) error { return os.Link(other, lock) }},
		{"a pipe", "a pipe", func(lock, _ string) error { return unix.Mkfifo(lock, 0o644) }},
		{"a socket", "a socket", func(lock, _ string) error { return unix.Mknod(lock, unix.S_IFSOCK|0o644, 0) }},
		{"a device", "a device", func(lock, _ string) error { return unix.Mknod(lock, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))) }},
		{"a directory", "a directory", func(lock, _ string) error { return os.Mkdir(lock, 0o755) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			lock, other := filepath.Join(dir, "lock"), filepath.Join(dir, "other")
			os.WriteFile(other, []byte(content), 0o644)
			if err := c.make(lock, other); errors.Is(err, unix.EPERM) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			before := look(t, dir)
			done := make(chan error, 1)
			go func() {
				if who, held := Holder(dir, "lock"); held {
					t.Errorf("it is held by %s", who)
				}
				_, err := Acquire(dir, "lock")
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || errors.Is(err, ErrHeld) {
					t.Fatalf("got %v", err)
				}
				for _, says := range []string{lock + " is ", c.says, "move it away"} {
					if !strings.Contains(err.Error(), says) {
						t.Errorf("%v, want one that says %q", err, says)
					}
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it waits")
			}
			if after := look(t, dir); after != before {
				t.Errorf("changed from\n%s\nto\n%s", before, after)
			}
			if data, err := os.ReadFile(other); err != nil || string(data) != content {
				t.Errorf("the other file has %q, %v", data, err)
			}
		})
	}
}

// A directory that is none is not waited at.
func TestNoDirectory(t *testing.T) {
	kind := testdata.OddFile(t, "a pipe")
	dir := filepath.Join(t.TempDir(), "dir")
	if err := kind.Make(dir); err != nil {
		t.Fatal(err)
	}
	testdata.Promptly(t, kind.Name, func() {
		if _, err := Acquire(dir, "lock"); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", kind.Name, err)
		}
		if _, held := Holder(dir, "lock"); held {
			t.Errorf("%s is held", kind.Name)
		}
	})
}

// look returns what is in a directory, but for its content.
func look(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		info, statErr := e.Info()
		if err = errors.Join(err, statErr); err == nil {
			fmt.Fprintln(&b, info.Name(), info.Mode(), info.Size(), info.ModTime())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The line about the holder takes the place of blanks and of another such line alone.
func TestContent(t *testing.T) {
	const line = "process 12345 (puavo-update-repository) since 2026-01-02 03:04:05\n"
	for _, c := range []struct {
		name, content string
		ours          bool
	}{
		{"empty", "", true},
		{"blank", "  \n\t\n", true},
		{"zeros", "\x00\x00\x00", true},
		{"a line", line, true},
		{"a padded line", strings.TrimSpace(line) + strings.Repeat(" ", 70) + "\n", true},
		{"a long line", "process 1 (" + strings.Repeat("x", 250) + ") since 2026-01-02 03:04:05\n", true},
		{"a long blank", strings.Repeat(" ", 300), true},
		{"a note", "precious\n", false},
		{"a line and a note", line + "precious\n", false},
		{"a note and a line", "precious\n" + line, false},
		{"a torn line", line[:30], false},
		{"a number", "12345\n", false},
		{"something long", strings.Repeat("x", 5000), false},
		{"blanks and more than is looked at", strings.Repeat(" ", 5000) + "x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "lock")
			os.WriteFile(path, []byte(c.content), 0o600)
			for range 2 {
				lock := acquire(t, dir, "lock")
				who, held := Holder(dir, "lock")
				if !held || strings.HasPrefix(who, byUs()) != c.ours || !c.ours && who != "another process" {
					t.Errorf("held by %q, %v", who, held)
				}
				during, _ := os.ReadFile(path)
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
				after, _ := os.ReadFile(path)
				if !c.ours {
					if string(during) != c.content || string(after) != c.content {
						t.Errorf("it has %q, then %q", during, after)
					}
					continue
				}
				// The first 200 bytes are what older versions read.
				if old := strings.TrimSpace(string(during[:min(200, len(during))])); old != who {
					t.Errorf("older versions read %q, not %q", old, who)
				}
				if strings.TrimSpace(string(during)) != who || len(during) < len(c.content) || strings.TrimSpace(string(after)) != "" || len(after) != len(during) {
					t.Errorf("it has %q, then %q", during, after)
				}
			}
		})
	}
}

// What somebody writes into a lock that is held stays there.
func TestWrittenMeanwhile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	for _, content := range []string{"", "precious\n"} { // a shell's exec 9>lock leaves nothing
		lock := acquire(t, dir, "lock")
		os.WriteFile(path, []byte(content), 0o600)
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("it has %q, %v, want %q", data, err, content)
		}
	}
}

// A name of a program of any length or kind makes a line of the same length.
func TestLine(t *testing.T) {
	for _, program := range []string{"x", "/usr/bin/puavo-update-repository", strings.Repeat("é", 120), "a\nb\x1b[2J", "\xff\xfe", "(x) since "} {
		line := lineOf(1<<22, program, time.Now())
		if len(line) != lineLength || !ours([]byte(line)) || strings.IndexFunc(line[:lineLength-1], func(r rune) bool { return r < ' ' }) >= 0 {
			t.Errorf("%q gives %q", program, line)
		}
	}
}

// Holder tells of a lock without a trace.
func TestHolder(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "sub"), 0o777)
	before := look(t, dir)
	for _, where := range [][2]string{{dir, "lock"}, {dir, "sub/lock"}, {dir, "none/lock"}, {dir, "../lock"}, {filepath.Join(dir, "none"), "lock"}} {
		if who, held := Holder(where[0], where[1]); held || who != "" {
			t.Errorf("%q: held by %q", where, who)
		}
	}
	if after := look(t, dir); after != before {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
	lock := acquire(t, dir, "sub/lock")
	os.Link(filepath.Join(dir, "sub/lock"), filepath.Join(dir, "copy")) // as a backup may
	before = look(t, filepath.Join(dir, "sub"))
	for range 3 {
		if who, held := Holder(dir, "sub/lock"); !held || !strings.HasPrefix(who, byUs()) || strings.TrimSpace(who) != who {
			t.Errorf("held by %q, %v", who, held)
		}
	}
	if after := look(t, filepath.Join(dir, "sub")); after != before {
		t.Errorf("changed from\n%s\nto\n%s", before, after)
	}
	lock.Release()
	if who, held := Holder(dir, "sub/lock"); held {
		t.Errorf("after it was given back: held by %q", who)
	}
}

// Those who only look keep nobody from the lock.
func TestLookedAt(t *testing.T) {
	dir := t.TempDir()
	acquire(t, dir, "lock").Release()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				Holder(dir, "lock")
			}
		}
	}()
	for range 200 {
		acquire(t, dir, "lock").Release()
	}
}

// A lock that is given back, or moved away with its holder, a moment later is taken.
func TestMoment(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(lock *Lock, path string) error
	}{
		{"given back", func(lock *Lock, _ string) error { return lock.Release() }},
		{"moved away", func(_ *Lock, path string) error { return os.Rename(path, path+".old") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			lock := acquire(t, dir, "lock")
			ended := make(chan error)
			go func() {
				time.Sleep(30 * time.Millisecond)
				ended <- c.end(lock, filepath.Join(dir, "lock"))
			}()
			second, err := Acquire(dir, "lock")
			if ended := <-ended; err != nil || ended != nil {
				t.Fatalf("%v, %v", err, ended)
			}
			if err := second.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}
