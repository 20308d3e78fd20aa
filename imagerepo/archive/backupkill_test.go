package archive

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// backupKills is how often backups are killed.
var backupKills = flag.Int("backup-kills", 4, "how often TestBackupKilled kills a backup")

// TestBackupChild is the process that TestBackupKilled kills.
func TestBackupChild(t *testing.T) {
	store := os.Getenv("PUAVO_BACKUP_STORE")
	if store == "" {
		return // it is only of use there
	}
	s, err := Open(store, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Backup(t.Context(), BackupOptions{Guest: "web", Disks: []string{os.Getenv("PUAVO_BACKUP_DISK")}, Version: os.Getenv("PUAVO_BACKUP_VERSION")}); err != nil {
		t.Fatal(err)
	}
}

// Backups are killed at random. After each, every version that the catalog names restores with
// its digest, and nothing is left that the next does not end.
func TestBackupKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	v := newVM(t)
	content := v.bytes(8 * mib)
	took := time.Minute // of a backup that is not killed: the first is not
	killed, named := 0, 0
	for day := 0; killed < *backupKills; day++ {
		v.noise.Read(content[v.random.IntN(7*mib):][:300000])
		v.raw(content)
		start := time.Now()
		after := took
		if day > 0 {
			after = time.Duration(v.random.Int64N(int64(took * 5 / 4)))
		}
		end, err := v.child(day, after)
		if err != nil {
			t.Fatal(err)
		}
		if end {
			took = time.Since(start)
		} else {
			killed++
		}
		before := len(v.states)
		v.settles(day, content, end)
		if !end {
			named += len(v.states) - before
		}
	}
	t.Logf("%d backups killed, %d of them after the version was named; %d versions", killed, named, len(v.states))
	v.restoresAll()
}

// child backs up in a process, which is killed after a time, and reports whether it came to its end before.
func (v *vm) child(day int, after time.Duration) (end bool, err error) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBackupChild$")
	cmd.Env = append(os.Environ(), "PUAVO_BACKUP_STORE="+v.store, "PUAVO_BACKUP_DISK="+v.disk, "PUAVO_BACKUP_VERSION="+versionOf(day))
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

// settles checks the archive after a backup, which may have been killed after it named the version.
func (v *vm) settles(day int, content []byte, end bool) {
	v.t.Helper()
	s, err := Open(v.store, v.o)
	v.must(err)
	defer s.Close()
	all, err := s.List(nil)
	v.must(err)
	version := versionOf(day)
	if n := len(all); n > 0 && all[n-1].Version == version {
		v.states[version] = bytes.Clone(content)
	} else if end {
		v.t.Fatalf("%s is missing", version)
	}
	if len(all) != len(v.states) {
		v.t.Fatalf("%d versions, want %d", len(all), len(v.states))
	}
	if len(all) > 0 {
		_, err = s.Verify(v.t.Context(), VerifyOptions{Deep: true})
		// Files that a killed run has left are reported until the next ends it.
		if err != nil {
			_, err = s.GC(v.t.Context(), false)
			v.must(err)
			_, err = s.Verify(v.t.Context(), VerifyOptions{Deep: true})
			v.must(err)
		}
		out := filepath.Join(v.t.TempDir(), "out")
		for version, want := range v.states {
			_, err := s.Restore(v.t.Context(), "web/vda", version, out, true)
			v.must(err)
			if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
				v.t.Errorf("%s has another content, %v", version, err)
			}
		}
	}
}
