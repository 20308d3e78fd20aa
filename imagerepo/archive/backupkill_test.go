package archive

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
)

// backupKills is how often backups are killed.
var backupKills = flag.Int("backup-kills", 2, "how often TestBackupKilled kills a backup")

// TestBackupChild is the process that TestBackupKilled kills.
func TestBackupChild(t *testing.T) {
	store := os.Getenv("PUAVO_BACKUP_STORE")
	if store == "" {
		return // it is only of use there
	}
	if at, _ := strconv.Atoi(os.Getenv("PUAVO_BACKUP_CHANGE")); at > 0 {
		n := 0
		atomicfile.Observe(store, func(c atomicfile.Change) error {
			if c.Kind != atomicfile.Write {
				n++
			}
			if n == at {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		})
	}
	s, err := Open(store, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := BackupOptions{Guest: "web", Disks: strings.Split(os.Getenv("PUAVO_BACKUP_DISKS"), "\n"), Version: os.Getenv("PUAVO_BACKUP_VERSION")}
	if _, err := s.Backup(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// Backups of two disks are killed at random times, and at random changes. After each, every
// version that the catalogs name restores with its digest; the next command leaves the disks with
// the same versions, and nothing else.
func TestBackupKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	p := newPair(t)
	took := time.Minute // of a backup that is not killed: the first is not
	killed, named, half := 0, 0, 0
	for day := 1; killed < *backupKills; day++ {
		p.change(day)
		after, change := took, 0
		switch {
		case day > 1 && day%2 == 0:
			after = time.Duration(p.random.Int64N(int64(took * 5 / 4)))
		case day > 1:
			change = 1 + p.random.IntN(60)
		}
		start := time.Now()
		end, err := p.child(day, after, change)
		if err != nil {
			t.Fatal(err)
		}
		before := p.versions("killed")
		if len(before[0]) != len(before[1]) {
			half++
		}
		has := p.settles(fmt.Sprintf("after backup %d", day), day)
		switch {
		case !end:
			killed++
			if has {
				named++
			}
		case !has:
			t.Fatalf("backup %d succeeded, and its version is missing", day)
		default:
			took = time.Since(start)
		}
	}
	t.Logf("%d backups killed, %d of them after the versions were decided on, %d between two disks; %d versions", killed, named, half, len(p.had))
	s := p.open()
	if r, err := s.Verify(t.Context(), VerifyOptions{Deep: true}); err != nil || r.Versions != 2*len(p.had) {
		t.Errorf("%+v, %v", r, err)
	}
}

// child backs up in a process, which is killed after a time, or at a change, and reports whether
// it came to its end before.
func (p *pair) child(day int, after time.Duration, change int) (end bool, err error) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBackupChild$")
	cmd.Env = append(os.Environ(), "PUAVO_BACKUP_STORE="+p.store, "PUAVO_BACKUP_DISKS="+strings.Join(p.disks[:], "\n"), "PUAVO_BACKUP_VERSION="+versionOf(day), "PUAVO_BACKUP_CHANGE="+strconv.Itoa(change))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return false, err
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	timer.Stop()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 {
		return false, nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out.Bytes())
	}
	return true, err
}
