package client_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/testdata"
)

// Images of the update that the program before has left in the middle.
const (
	long2 = "puavo-os-long-buster-2022-03-02-000000-amd64.img"
	long3 = "puavo-os-long-buster-2022-03-03-000000-amd64.img"
)

// longAgo is a time before the mirror was signed.
var longAgo = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// before is an images directory and the mirror with its keys that the program before
// has left.
type before struct {
	*place
	signed *signed
}

func newBefore(t testing.TB, name string) *before {
	t.Helper()
	dir := t.TempDir()
	for _, fixture := range []string{"mirror", "keys", name} {
		testdata.Before(t, fixture, dir)
	}
	return &before{
		&place{t: t, dir: filepath.Join(dir, name)},
		&signed{t, filepath.Join(dir, "mirror"), filepath.Join(dir, "keys")},
	}
}

// options are those that the program before had.
func (b *before) options(mirror string) client.Options {
	o := b.place.options(mirror, "")
	o.Trust, o.DefaultLink = b.signed.root(), defaultLink
	return o
}

// sign signs the mirror at another time.
func (b *before) sign(now time.Time) {
	b.t.Helper()
	const long = 10000 * 24 * time.Hour
	o := b.signed.options()
	o.Now = func() time.Time { return now }
	o.Lifetimes = map[string]time.Duration{trust.Root: long, trust.Targets: long, trust.Snapshot: long, trust.Timestamp: long}
	o.Passphrase = func(bool) ([]byte, error) {
		return []byte(strings.TrimSpace(string(testdata.Read(b.t, "before/passphrase")))), nil
	}
	b.signed.signAs(o)
}

// A client of the program before goes on with what it trusted, and not back behind it.
func TestBeforeTrust(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(b *before)
		refused string
	}{
		{"the same", func(*before) {}, ""},
		{"a newer state", func(b *before) {
			b.signed.write("meta/puavo-os-long-buster-amd64.json", testdata.Read(t, "before/mirror/meta/puavo-os-amxa-buster-amd64.json"))
			b.sign(time.Now())
		}, ""},
		{"an older state", func(b *before) {
			os.RemoveAll(b.signed.path("tuf"))
			b.sign(longAgo)
		}, "rollback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBefore(t, "client")
			want := b.files()
			c.change(b)
			result, err := client.Update(t.Context(), b.options(b.signed.dir))
			if c.refused == "" && (err != nil || !result.UpToDate) {
				t.Errorf("%+v, %v", result, err)
			}
			if c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("%+v, %v; want %q", result, err, c.refused)
			}
			b.want(want)
		})
	}
}

// What the program before knew of the images is known: none of them is read.
func TestBeforeKnown(t *testing.T) {
	b := newBefore(t, "client")
	all, err := client.List(t.Context(), b.options(b.signed.dir))
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[string]client.State)
	for _, l := range all {
		if l.Local {
			states[l.Name.String()] = l.State
		}
		if l.Default != (l.Name == name(image4)) {
			t.Errorf("%s is the default: %v", l.Name, l.Default)
		}
	}
	if !maps.Equal(states, map[string]client.State{image3: client.Right, image4: client.Right}) {
		t.Errorf("known are %v", states)
	}
}

// An update that the program before has left in the middle goes on from there: only
// the rest of the delta is fetched, from whatever mirror, with whatever ETag.
func TestBeforeInterrupted(t *testing.T) {
	var journal struct {
		Version  string
		Position delta.Position
	}
	if err := json.Unmarshal(testdata.Read(t, "before/interrupted/"+long3+".tmp.journal"), &journal); err != nil {
		t.Fatal(err)
	}
	whole := int64(len(testdata.Read(t, "before/mirror/"+deltaFile(long2, long3))))
	rest := whole - journal.Position.Delta
	for _, c := range []struct {
		name    string
		same    bool // the mirror is the one of then
		version string
	}{
		{"from another mirror", false, `"another"`},
		{"from the same mirror", true, journal.Version},
		{"from the same mirror, with another ETag", true, `"another"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBefore(t, "interrupted")
			s := new(breaking)
			s.tag.Store(c.version)
			url := startSite(t, s.breaks(http.FileServer(http.Dir(b.signed.dir))))
			if c.same {
				b.edit(long3+".tmp.journal", "http://images.example.org", url)
			}
			result, err := client.Update(t.Context(), b.options(url))
			if err != nil || !result.Made || result.Route.String() != from(long2) {
				t.Fatalf("%+v, %v", result, err)
			}
			if sent := s.sent.Load(); sent > rest {
				t.Errorf("%d bytes were fetched; left of %d were %d", sent, whole, rest)
			}
			base, made := string(testdata.BeforeImage(t, long2)), string(testdata.BeforeImage(t, long3))
			b.want(map[string]string{long2: base, long3: made, defaultLink: made, "ltsp-backup.img": base, ".trust": ""})
			if b.log.Len() > 0 {
				t.Errorf("warnings: %s", &b.log)
			}
		})
	}
}

// An update that was interrupted refuses an older state too.
func TestBeforeInterruptedTrust(t *testing.T) {
	b := newBefore(t, "interrupted")
	want := b.files()
	os.RemoveAll(b.signed.path("tuf"))
	b.sign(longAgo)
	if _, err := client.Update(t.Context(), b.options(b.signed.dir)); !errors.Is(err, client.ErrUntrusted) {
		t.Errorf("%v", err)
	}
	b.want(want)
}
