package publish

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckDestination(t *testing.T) {
	for dest, want := range map[string]string{
		"/srv/images":                   "",
		"images":                        "",
		"./host:/srv":                   "",
		"sftp://host/srv":               "",
		"sftp://me@host:2222/srv/a%3Fb": "",
		"sftp://[::1]:22/srv":           "",
		"s3://bucket":                   "",
		"s3://bucket/a/b?endpoint=https://s3.example.org&region=eu-1": "",

		"":                              "it is empty",
		"host:/srv":                     "write sftp://host/srv",
		"me@host:srv":                   "write sftp://me@host/srv",
		"http://host/srv":               "want a directory, sftp://",
		"sftp://host":                   "no path",
		"sftp:///srv":                   "no host",
		"sftp://host:65536/srv":         `port "65536"`,
		"sftp://host:0/srv":             `port "0"`,
		"sftp://host/srv?x":             "must not have ?",
		"sftp://host/srv#x":             "must not have ? or #",
		"sftp://me:secret@host/srv":     "has a password",
		"sftp://me:secret@ho st/srv":    "malformed",
		"s3://":                         "no bucket",
		"s3://bucket:80":                "no bucket",
		"s3://key@bucket":               "no user",
		"s3://key:secret@bucket":        "has a password",
		"s3://bucket#x":                 "must not have #",
		"s3://bucket?secret=x":          `"secret"`,
		"s3://bucket?region=a&region=b": `"region"`,
	} {
		err := CheckDestination(dest)
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrDestination) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", dest, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s is shown: %v", dest, err)
		}
	}
}

func FuzzCheckDestination(f *testing.F) {
	f.Add("sftp://me:hidden@host:22/srv?x#y")
	f.Add("s3://bucket/a?endpoint=http://127.0.0.1:1&region=x")
	f.Fuzz(func(t *testing.T, dest string) {
		if err := CheckDestination(dest); err != nil && !errors.Is(err, ErrDestination) {
			t.Error(err)
		}
	})
}

// A directory that is, holds or lies in one of the administrator's is refused, by whatever path.
func TestApart(t *testing.T) {
	p := newPlace(t, image1)
	p.build()
	link := filepath.Join(p.Dir, "link")
	p.Must(os.Symlink(p.Mirror, link))
	keys := filepath.Join(p.Dir, "keys")
	for _, dest := range []string{p.Mirror, p.Mirror + "/new/a", p.Dir, link, link + "/x", p.Images, p.Images + "/a", keys, keys + "/a"} {
		o := p.options()
		o.Destination, o.Apart = dest, []string{p.Images, "", keys}
		if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrDestination) || !strings.Contains(err.Error(), "holds or lies in") {
			t.Errorf("%s: %v", dest, err)
		}
	}
	if _, err := os.Stat(filepath.Join(p.Mirror, "new")); err == nil {
		t.Error("a refused destination was made")
	}
}
