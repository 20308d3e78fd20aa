package client_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/testdata"
)

// closed are the ways in which an images directory cannot be written. Each calls do
// with its path.
var closed = []struct {
	name  string
	errno syscall.Errno
	call  func(t *testing.T, dir string, do func(dir string))
}{
	{"mounted read-only", syscall.EROFS, func(t *testing.T, dir string, do func(string)) {
		do(testdata.ReadOnly(t, dir))
	}},
	{"another user's", syscall.EACCES, func(t *testing.T, dir string, do func(string)) {
		os.Chmod(filepath.Dir(dir), 0o755)
		os.Chmod(dir, 0o555)
		testdata.AsNobody(func() { do(dir) })
	}},
}

// What only looks does so in a directory that cannot be written. Verify says that it
// remembers nothing.
func TestLookAtReadOnly(t *testing.T) {
	const says = "not recorded"
	s := newSigned(t)
	mirror, root := startSite(t, http.FileServer(http.Dir(s.dir))), filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(root, must(os.ReadFile(s.root())), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Dir(filepath.Dir(root)), 0o755)
	for _, c := range closed {
		for _, trusted := range []string{"", root} {
			for _, before := range []bool{false, true} { // whether an update was made before
				p := newPlace(t, image3)
				o := p.options(mirror, "")
				o.Trust = trusted
				if before {
					o.Image = image3
					must(client.Update(t.Context(), o))
					o.Image = ""
				}
				files := p.everything()
				c.call(t, p.dir, func(dir string) {
					o.Dir = dir
					plan, err := client.NewPlan(t.Context(), o)
					if err != nil || plan.Image != name(image4) || len(plan.Candidates) == 0 {
						t.Errorf("%s: plan %+v, %v", c.name, plan, err)
					}
					if all, err := client.List(t.Context(), o); err != nil || len(all) != 5 || p.log.Len() > 0 {
						t.Errorf("%s: list %+v, %v, warnings %s", c.name, all, err, &p.log)
					}
					all, err := client.Verify(t.Context(), o)
					if err != nil || len(all) != 1 || all[0].Name != name(image3) || all[0].State != client.Right {
						t.Errorf("%s: verify %+v, %v", c.name, all, err)
					}
					if strings.Count(p.log.String(), "\n") != 1 || !strings.Contains(p.log.String(), says) || !strings.Contains(p.log.String(), dir) {
						t.Errorf("%s: warnings %q", c.name, &p.log)
					}
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					if _, err := client.Verify(ctx, o); !errors.Is(err, context.Canceled) {
						t.Errorf("%s, cancelled: %v", c.name, err)
					}
				})
				if after := p.everything(); !maps.Equal(after, files) {
					t.Errorf("%s: left are %q", c.name, after)
				}
			}
		}
	}
}

// Verify does not read what another process changes, though it cannot take the lock.
func TestVerifyLockedReadOnly(t *testing.T) {
	p := newPlace(t, image3)
	o := p.options(access["directory"](t, "all"), "")
	o.Dir = testdata.ReadOnly(t, p.dir)
	lock, err := lockfile.Acquire(p.dir, lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Verify(t.Context(), o); !errors.Is(err, client.ErrLocked) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("while another process holds the lock: %v", err)
	}
	lock.Release()
	if _, err := client.Verify(t.Context(), o); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// An update of a directory that cannot be written asks no mirror for anything, and ends
// with one error.
func TestUpdateReadOnly(t *testing.T) {
	for _, c := range closed {
		p, s := newPlace(t, image3), newSite(t, "all", nil)
		before := p.everything()
		o := p.options(s.URL, "")
		o.Mirrors = append(o.Mirrors, s.URL)
		o.DefaultLink = "ltsp.img"
		c.call(t, p.dir, func(dir string) {
			o.Dir = dir
			_, err := client.Update(t.Context(), o)
			if !errors.Is(err, c.errno) || p.log.Len() > 0 {
				t.Errorf("%s: %v, warnings %s", c.name, err, &p.log)
			}
			want := "images directory " + dir + " is read-only; mount it writable"
			if c.errno == syscall.EROFS && err.Error() != want {
				t.Errorf("%s: %v, want %s", c.name, err, want)
			} else if c.errno != syscall.EROFS && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		if asked, after := s.asked(), p.everything(); len(asked) > 0 || !maps.Equal(after, before) {
			t.Errorf("%s: it asked for %q, left are %q", c.name, asked, after)
		}
	}
}
