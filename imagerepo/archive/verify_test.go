package archive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// What is wrong is found, with the versions that it hurts.
func TestVerify(t *testing.T) {
	t.Parallel()
	const group = "os-amd64"
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		o       VerifyOptions
		damage  func(p *place, dir string) error
		problem string // of the first finding
		hurt    int
		err     error
	}{
		{"nothing", t.Context(), VerifyOptions{}, func(*place, string) error { return nil }, "", 0, nil},
		{"a bit of the newest", t.Context(), VerifyOptions{}, func(p *place, dir string) error { return flip(filepath.Join(dir, versionOf(3)+".img")) }, "BLAKE3", 3, ErrWrong},
		{"a bit of a delta", t.Context(), VerifyOptions{}, func(p *place, dir string) error { return flip(filepath.Join(dir, versionOf(2)+".rdiff")) }, "BLAKE3", 2, ErrWrong},
		{"a bit of a delta, deep", t.Context(), VerifyOptions{Deep: true}, func(p *place, dir string) error { return flip(filepath.Join(dir, versionOf(1)+".rdiff")) }, "", 1, ErrWrong},
		{"a delta is missing", t.Context(), VerifyOptions{}, func(p *place, dir string) error { return os.Remove(filepath.Join(dir, versionOf(1)+".rdiff")) }, "no such file", 1, ErrWrong},
		{"a copy of the catalog", t.Context(), VerifyOptions{}, func(p *place, dir string) error { return flip(filepath.Join(dir, catalog.File)) }, "catalog.json is damaged", 0, ErrWrong},
		{"both copies", t.Context(), VerifyOptions{}, func(p *place, dir string) error {
			return errors.Join(flip(filepath.Join(dir, catalog.File)), flip(filepath.Join(dir, catalog.Backup)))
		}, "--rebuild-catalog", 0, ErrWrong},
		{"a stranger", t.Context(), VerifyOptions{}, func(p *place, dir string) error {
			return os.WriteFile(filepath.Join(dir, versionOf(9)+".img"), nil, 0o666)
		}, "not in the catalog", 0, ErrWrong},
		{"a group that is not there", t.Context(), VerifyOptions{Groups: plan.Globs{"x"}}, func(*place, string) error { return nil }, "", 0, ErrUnknown},
		{"cancelled", cancelled, VerifyOptions{}, func(*place, string) error { return nil }, "", 0, context.Canceled},
	} {
		p := newPlace(t)
		p.days(group, 1, 2, 3)
		p.must(c.damage(p, filepath.Join(p.store, group)))
		r, err := p.open().Verify(c.ctx, c.o)
		if !errors.Is(err, c.err) || errors.Is(err, ErrWrong) && (len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Problem, c.problem) || len(r.Findings[0].Hurt) != c.hurt) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
}

func flip(file string) error {
	data, err := os.ReadFile(file)
	if err == nil {
		data[len(data)/2] ^= 1
	}
	return errors.Join(err, os.WriteFile(file, data, 0o666))
}

func TestSample(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3, 4, 5)
	for percent, want := range map[float64]int{0: 5, 100: 5, 1: 1, 20: 1, 21: 2, 50: 3} {
		if r, err := p.open().Verify(t.Context(), VerifyOptions{Sample: percent}); err != nil || r.Versions != want {
			t.Errorf("%v %%: %+v, %v", percent, r, err)
		}
	}
}

// A change writes a copy of the catalog again that is damaged.
func TestRepair(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	p.must(flip(filepath.Join(p.store, "os-amd64", catalog.File)))
	p.must(p.open().Note(t.Context(), "os-amd64", versionOf(1), "x"))
	p.check()
}

// Without SHA256SUMS too, what has its name makes a catalog. What fits nowhere is named.
func TestRebuild(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3)
	dir := filepath.Join(p.store, "os-amd64")
	for _, file := range []string{catalog.File, catalog.Backup, catalog.SumsFile} {
		p.must(os.Remove(filepath.Join(dir, file)))
	}
	stranger := versionOf(2)[:11] + "130000.rdiff"
	p.must(os.WriteFile(filepath.Join(dir, stranger), []byte("no delta"), 0o666))
	groups, lost, err := p.open().Rebuild(t.Context())
	if err != nil || !slices.Equal(groups, []string{"os-amd64"}) || !slices.Equal(lost, []string{"os-amd64/" + stranger}) {
		t.Errorf("%q, %q, %v", groups, lost, err)
	}
	p.must(os.Remove(filepath.Join(dir, stranger)))
	p.restoreAll("rebuilt")
	if _, err := p.open().Verify(t.Context(), VerifyOptions{Deep: true}); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	p.must(os.Remove(filepath.Join(dir, catalog.File)), os.Remove(filepath.Join(dir, catalog.Backup)))
	if _, _, err := p.open().Rebuild(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Where an insertion died, and one of its files is lost too, what was there before is rebuilt, and
// what came goes to the trash.
func TestRebuildSkipped(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 3)
	p.put("os-amd64", 2)
	dead := false
	stop := p.observe(func(c atomicfile.Change) error {
		if dead = dead || c.Kind == atomicfile.Rename && c.To == catalog.File; dead {
			return errDead
		}
		return nil
	})
	if err := p.addOrFail(); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	stop()
	dir := filepath.Join(p.store, "os-amd64")
	for _, file := range []string{catalog.File, catalog.Backup, versionOf(1) + ".rdiff" + catalog.New} {
		p.must(os.Remove(filepath.Join(dir, file)))
	}
	if _, _, err := p.open().Rebuild(t.Context()); err != nil || p.forms("os-amd64") != "rW r" {
		t.Errorf("%v, %s", err, p.forms("os-amd64"))
	}
	p.check()
}

// Two versions are compared without restoring them.
func TestDiff(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	fixtures := testdata.Glob(t, "images/*.img")
	for day, file := range fixtures[:2] {
		data, err := os.ReadFile(file)
		p.must(err)
		p.write("os-amd64", day, data)
	}
	p.add()
	collect := func(run func(report func(imagediff.Change) error) (int, error)) (changes []string, same int) {
		same, err := run(func(c imagediff.Change) error {
			changes = append(changes, string(c.Kind)+" "+c.Path)
			return nil
		})
		p.must(err)
		return changes, same
	}
	got, same := collect(func(report func(imagediff.Change) error) (int, error) {
		return p.open().Diff(t.Context(), "os-amd64", versionOf(0), versionOf(1), report)
	})
	want, wantSame := collect(func(report func(imagediff.Change) error) (int, error) {
		return imagediff.Compare(t.Context(), fixtures[0], fixtures[1], report)
	})
	if !slices.Equal(got, want) || same != wantSame || len(want) == 0 {
		t.Errorf("%q, %d same; want %q, %d", got, same, want, wantSame)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.open().Diff(cancelled, "os-amd64", versionOf(0), versionOf(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
