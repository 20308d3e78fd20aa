package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/archive"
	"puavo-image-repository/testdata"
)

const (
	archiveSeries = "puavo-os-noise-buster-amd64"
	archivedSize  = 8 << 20
)

// archived is an archive that grows by a version of one image a day, and the directory of images.
type archived struct {
	*testing.T
	random        *rand.Rand
	noise         *rand.ChaCha8
	images, store string
	newest        []byte
	contents      map[string][]byte // by version
}

func newArchived(t *testing.T, seed uint64) *archived {
	dir := t.TempDir()
	a := &archived{
		T: t, random: rand.New(rand.NewPCG(seed, 0)), noise: rand.NewChaCha8([32]byte{byte(seed)}),
		images: filepath.Join(dir, "images"), store: filepath.Join(dir, "store"), newest: make([]byte, archivedSize), contents: make(map[string][]byte),
	}
	a.noise.Read(a.newest)
	if err := os.Mkdir(a.images, 0o777); err != nil {
		t.Fatal(err)
	}
	return a
}

// next puts the image of another day into the directory, and removes the oldest of more than three.
func (a *archived) next() {
	a.Helper()
	a.newest = bytes.Clone(a.newest)
	for range 20 {
		at := a.random.IntN(archivedSize - 64<<10)
		a.noise.Read(a.newest[at : at+a.random.IntN(64<<10)])
	}
	version := time.Date(2024, 1, 1+len(a.contents), 12, 0, 0, 0, time.UTC).Format("2006-01-02-150405")
	a.contents[version] = a.newest
	if err := os.WriteFile(filepath.Join(a.images, "puavo-os-noise-buster-"+version+"-amd64.img"), a.newest, 0o666); err != nil {
		a.Fatal(err)
	}
	if all, err := filepath.Glob(filepath.Join(a.images, "*.img")); err == nil && len(all) > 3 {
		os.Remove(all[0])
	}
}

// command returns a command of archive.
func (a *archived) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(a.Context(), name, append([]string{"archive"}, args...)...)
	cmd.Env = append(os.Environ(), "PUAVO_UPDATE_REPOSITORY_SETTINGS=")
	return cmd
}

// run runs a command of archive, which must succeed.
func (a *archived) run(args ...string) []byte {
	a.Helper()
	cmd := a.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		a.Fatalf("archive %q: %v: %s", args, err, &stderr)
	}
	return out
}

// kill runs a command of archive, kills it by SIGKILL at random before length is over, and
// reports whether that was before its end.
func (a *archived) kill(length time.Duration, args ...string) (killed bool) {
	a.Helper()
	cmd := a.command(args...)
	if err := cmd.Start(); err != nil {
		a.Fatal(err)
	}
	share := a.random.Float64()
	time.Sleep(time.Duration(share * share * share * float64(length))) // most commands are much shorter
	cmd.Process.Kill()
	cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// versions returns what the archive has.
func (a *archived) versions() (all []archive.Version) {
	a.Helper()
	if err := json.Unmarshal(a.run("list", "--json", a.store), &all); err != nil {
		a.Fatal(err)
	}
	return all
}

// check restores all versions that the archive names, and compares them.
func (a *archived) check(when string) {
	a.Helper()
	if _, err := os.Stat(filepath.Join(a.store, ".archive")); errors.Is(err, os.ErrNotExist) {
		return // killed before there was an archive
	}
	out := filepath.Join(a.TempDir(), "out")
	for _, v := range a.versions() {
		a.run("restore", "--no-sync", "--overwrite", a.store, v.Group, v.Version, "--out", out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, a.contents[v.Version]) {
			a.Fatalf("%s: version %s is wrong, %v", when, v.Version, err)
		}
	}
	os.Remove(out)
}

// kills is how many running commands TestArchiveKill kills: .ci/long sets it.
func kills(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("ARCHIVE_KILLS")); err == nil {
		return n
	}
	return testdata.Scale(10, 4)
}

// Whenever a command is killed, every version that the archive names comes out as it went in.
// The next run completes the work, and in the end nothing is left that no version needs.
func TestArchiveKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	a := newArchived(t, seed)
	a.next()
	start := time.Now()
	a.run("add", a.images, a.store)
	a.next()
	a.run("add", a.images, a.store)
	length := time.Since(start)
	out := filepath.Join(t.TempDir(), "killed.img")
	count := make(map[string]int)
	for i, all := 0, kills(t); i < all; {
		a.next()
		for _, args := range [][]string{
			{"add", a.images, a.store},
			{"restore", "--overwrite", a.store, archiveSeries, a.versions()[0].Version, "--out", out},
			{"prune", a.store, "--keep-last", "6", "--keep-weekly", "3", "--grace", "0"},
			{"gc", a.store},
		} {
			when := fmt.Sprintf("seed %d, kill %d of %s", seed, i, args[0])
			if !a.kill(length, args...) {
				continue
			}
			i++
			count[args[0]]++
			a.check(when)
			a.run(args...)
			a.check(when + ", run again")
		}
	}
	a.run("prune", a.store, "--keep-last", "2", "--grace", "0")
	a.run("gc", a.store)
	a.run("verify", "--deep", a.store) // which reports files that no version has
	a.check("in the end")
	if got := a.versions(); len(got) != 2 {
		t.Errorf("%d versions are left: %v", len(got), got)
	}
	t.Logf("seed %d, kills of running commands: %v", seed, count)
}

// On a full disk a command fails, says what is missing, and leaves an archive whose versions all
// come out; with room it succeeds.
func TestArchiveFullDisk(t *testing.T) {
	disk := testdata.NewDisk(t, "ext4") // of 64 MiB
	a := newArchived(t, 1)
	a.store = filepath.Join(disk.Dir, "store")
	for range 3 {
		a.next()
		a.run("add", a.images, a.store)
	}
	a.next()
	filler := filepath.Join(disk.Dir, "filler")
	fill := func(free int64) {
		var fs syscall.Statfs_t
		if err := errors.Join(os.RemoveAll(filler), syscall.Statfs(disk.Dir, &fs)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filler, make([]byte, int64(fs.Bavail)*fs.Bsize-free), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	failed := 0
	for free := int64(0); free <= archivedSize; free += int64(testdata.Scale(1<<20, 4<<20)) {
		for _, args := range [][]string{{"add", a.images, a.store}, {"add", "--ignore-space", a.images, a.store}} {
			fill(free)
			cmd := a.command(args...)
			output, err := cmd.CombinedOutput()
			if err == nil {
				continue
			}
			failed++
			if !bytes.Contains(output, []byte("space")) || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%q with %d bytes free: %v: %s", args, free, err, output)
			}
			a.check(fmt.Sprintf("%q with %d bytes free", args, free))
		}
	}
	if failed < testdata.Scale(8, 3) {
		t.Errorf("%d runs failed for want of room", failed)
	}
	out := filepath.Join(disk.Dir, "out")
	fill(1 << 20)
	for _, more := range [][]string{nil, {"--ignore-space"}} {
		cmd := a.command(append(append([]string{"restore"}, more...), a.store, archiveSeries, "2024-01-01-120000", "--out", out)...)
		if output, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(output, []byte("space")) {
			t.Errorf("restore %q: %v: %s", more, err, output)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	a.run("restore", a.store, archiveSeries, "2024-01-01-120000", "--out", out) // goes on with what is there
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	a.run("add", a.images, a.store)
	a.run("verify", "--deep", a.store)
	a.check("with room")
}
