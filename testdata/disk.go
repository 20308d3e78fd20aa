package testdata

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Disk is a file system of its own on a file, of which the power can be cut.
type Disk struct {
	Dir string // where it is mounted

	t      testing.TB
	kind   string
	device string // the file
}

// diskSizes are the least that the file systems can do with, in MiB. The file has
// holes, so it does not take as much.
var diskSizes = map[string]int64{"ext4": 64, "btrfs": 128, "xfs": 320}

// NewDisk makes and mounts a file system, ext4, btrfs or xfs, for the time of the test.
// It skips the test where that is not allowed or mkfs is not installed; where CI is
// set, it fails instead.
func NewDisk(t testing.TB, kind string) *Disk {
	t.Helper()
	Tool(t, "mkfs."+kind)
	d := &Disk{t: t, kind: kind, device: filepath.Join(t.TempDir(), kind)}
	f, err := os.Create(d.device)
	if err == nil {
		err = f.Truncate(diskSizes[kind] << 20)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	Run(t, "mkfs."+kind, "-q", d.device)
	d.mount()
	return d
}

// Loop returns a block device with the content of a file, for the time of the test. Options are
// those of losetup. It skips the test where that is not allowed; where CI is set, it fails
// instead.
func Loop(t testing.TB, file string, options ...string) (device string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "losetup", append([]string{"--find", "--show", file}, options...)...).CombinedOutput()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("losetup: %v: %s", err, out)
		}
		t.Skipf("losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })
	return device
}

func (d *Disk) mount() {
	d.t.Helper()
	d.Dir = mountFile(d.t, d.kind, d.device)
}

// mountFile mounts the file system on a file for the time of the test and returns where.
// It skips the test where that is not allowed; where CI is set, it fails instead.
func mountFile(t testing.TB, kind, file string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mounting %s: %v: %s", kind, err, out)
		}
		t.Skipf("mounting %s: %v: %s", kind, err, out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() }) // it may be already
	return dir
}

// Squashfs makes a squashfs of what is in a directory, mounts it for the time of the test
// and returns where. It skips or fails the test as NewDisk does.
func Squashfs(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "squashfs")
	Run(t, "mksquashfs", dir, file, "-quiet", "-no-progress")
	return mountFile(t, "squashfs", file)
}

// Cut cuts the power: the disk is mounted again with what was on it, as the file
// system recovers it. What the system still had in its memory is lost.
func (d *Disk) Cut() {
	d.t.Helper()
	after := d.device + " after"
	Run(d.t, "cp", "--sparse=always", d.device, after)
	Run(d.t, "umount", d.Dir) // two with one identity cannot be mounted
	if err := os.Rename(after, d.device); err != nil {
		d.t.Fatal(err)
	}
	d.mount()
}

func (d *Disk) String() string { return fmt.Sprintf("%s at %s", d.kind, d.Dir) }
