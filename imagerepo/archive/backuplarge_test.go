package archive

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// backupLarge is how large the disk is that is copied in full.
var backupLarge = flag.Int("backup-large", 0, "how many MiB the disk of TestBackupLarge has, 0 to skip it")

// An increment of a large disk reads little, and takes little time: bytes and times are logged,
// where files share blocks and where they do not.
func TestBackupLarge(t *testing.T) {
	if *backupLarge == 0 {
		t.Skip("only with -backup-large")
	}
	for _, c := range []struct {
		name  string
		store string
		size  int
	}{
		{"reflinks", filepath.Join(testdata.NewDisk(t, "xfs").Dir, "store"), 128 * mib},
		{"copies", "", *backupLarge * mib},
	} {
		t.Run(c.name, func(t *testing.T) { measure(t, c.store, c.size) })
	}
}

func measure(t *testing.T, store string, size int) {
	v := newVM(t)
	v.o.NoSync = false
	if store != "" {
		v.store = store
	}
	file, raw := filepath.Join(v.images, "disk.qcow2"), filepath.Join(v.images, "raw")
	v.must(os.WriteFile(raw, v.bytes(size), 0o666))
	testdata.Run(t, "qemu-img", "convert", "-O", "qcow2", raw, file)
	v.disk = "vda=" + file
	var reads [2]int64
	for day := range 2 {
		testdata.Run(t, "qemu-img", "bitmap", "--add", file, "puavo-"+versionOf(day))
		start := time.Now()
		r, err := v.try(day)
		v.must(err)
		reads[day] = r.Disks[0].Read
		t.Logf("day %d: %d MiB of %d read, %d changed, by %s, %v", day, r.Disks[0].Read/mib, size/mib, r.Disks[0].Changed/mib, r.Disks[0].Way, time.Since(start).Round(time.Millisecond))
		args := []string{file}
		for range 8 {
			at := v.random.IntN(size/mib) * mib
			args = append([]string{"-c", "write -P 7 " + strconv.Itoa(at) + " 64k"}, args...)
		}
		testdata.Run(t, "qemu-io", args...)
	}
	if reads[0] != int64(size) || reads[1] > 24*mib {
		t.Errorf("%v bytes read", reads)
	}
}
