package published

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/testdata"
)

// expires writes a timestamp that expires then.
func (s *site) expires(when string) {
	s.t.Helper()
	err := errors.Join(os.MkdirAll(s.at("tuf"), 0o777), os.WriteFile(s.at("tuf/timestamp.json"), []byte(`{"signed":{"expires":"`+when+`"}}`), 0o666))
	if err != nil {
		s.t.Fatal(err)
	}
}

// sign does what a run does: it publishes, then signs, then says until when that holds.
func (s *site) sign(when string, want bool) (changed bool, err error) {
	s.t.Helper()
	known := s.open(Page{}, "c")
	s.docs.KeepBestBefore(want)
	first, err := s.docs.Write(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if when != "" {
		s.expires(when)
	}
	second, err := s.docs.WriteBestBefore(s.t.Context(), known, want)
	return first || second, err
}

// bestBefore returns the files that say until when the mirror may be believed, and those of
// them that are listed as empty, and recorded.
func (s *site) bestBefore() (there, listed, recorded string) {
	s.t.Helper()
	base := func(pattern string) string {
		files, err := filepath.Glob(s.at(pattern))
		if err != nil {
			s.t.Fatal(err)
		}
		for i, f := range files {
			files[i] = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), mirror.BestBefore), ".json")
		}
		return strings.Join(files, " ")
	}
	list, err := os.ReadFile(s.at("SHA256SUMS"))
	if err != nil {
		s.t.Fatal(err)
	}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  "
	var days []string
	for line := range strings.Lines(string(list)) {
		if day, ok := strings.CutPrefix(line, empty+mirror.BestBefore); ok {
			days = append(days, strings.TrimSuffix(day, "\n"))
		}
	}
	return base(mirror.BestBefore + "*"), strings.Join(days, " "), base(".repo/state/" + mirror.BestBefore + "*")
}

const (
	may  = "2027-05-01T23:59:59Z"
	june = "2027-06-01T01:00:00+02:00" // still May in UTC
)

// The file has the day of the timestamp; there is never another of the tool's own, and what
// is somebody's stays.
func TestBestBefore(t *testing.T) {
	put := func(s *site, name, text string) {
		if err := os.WriteFile(s.at(name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name        string
		before      func(s *site)
		when        string
		want        bool
		there, ours string
		fails       string
	}{
		{"off", func(*site) {}, "", false, "", "", ""},
		{"the first", func(*site) {}, may, true, "2027-05-01", "2027-05-01", ""},
		{"a later one", func(s *site) { s.sign(may, true) }, june, true, "2027-05-31", "2027-05-31", ""},
		{"an earlier one", func(s *site) { s.sign(june, true) }, may, true, "2027-05-01", "2027-05-01", ""},
		{"off again", func(s *site) { s.sign(may, true) }, may, false, "", "", ""},
		{"off again, without its record", func(s *site) {
			s.sign(may, true)
			os.RemoveAll(s.at(".repo/state"))
			os.Mkdir(s.at(".repo/state"), 0o777)
		}, may, false, "", "", ""},
		{"a later one, without its record", func(s *site) {
			s.sign(may, true)
			os.RemoveAll(s.at(".repo/state"))
			os.Mkdir(s.at(".repo/state"), 0o777)
		}, june, true, "2027-05-31", "2027-05-31", ""},
		{"it is gone", func(s *site) { s.sign(may, true); os.Remove(s.at("BEST-BEFORE-2027-05-01")) }, may, true, "2027-05-01", "2027-05-01", ""},
		{"it has content", func(s *site) { s.sign(may, true); put(s, "BEST-BEFORE-2027-05-01", "x") }, may, true, "2027-05-01", "2027-05-01", ""},
		{"it has content, and is old", func(s *site) { s.sign(may, true); put(s, "BEST-BEFORE-2027-05-01", "x") }, june, true, "2027-05-31", "2027-05-31", ""},
		{"the list is gone", func(s *site) { s.sign(may, true); os.Remove(s.at("SHA256SUMS")) }, june, true, "2027-05-31", "2027-05-31", ""},
		{"somebody's of another day", func(s *site) { put(s, "BEST-BEFORE-2027-01-01", "") }, may, true, "2027-01-01 2027-05-01", "2027-05-01", ""},
		{"somebody's, and off", func(s *site) { put(s, "BEST-BEFORE-2027-01-01", "") }, may, false, "2027-01-01", "", ""},
		{"somebody's without content is taken over", func(s *site) { put(s, "BEST-BEFORE-2027-05-01", "") }, may, true, "2027-05-01", "2027-05-01", ""},
		{"somebody's in the way", func(s *site) { put(s, "BEST-BEFORE-2027-05-01", "x") }, may, true, "2027-05-01", "", "move it away"},
		{"no day", func(s *site) { put(s, "BEST-BEFORE-2027-13-01", "") }, may, true, "2027-05-01 2027-13-01", "2027-05-01", ""},
		{"not signed", func(*site) {}, "", true, "", "", "not signed"},
		{"a date that is none", func(*site) {}, "soon", true, "", "", "timestamp.json: "},
		{"no date", func(*site) {}, "0001-01-01T00:00:00Z", true, "", "", "out of range"},
		{"a year of five digits", func(*site) {}, "-0001-01-01T00:00:00Z", true, "", "", "timestamp.json: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			c.before(s)
			_, err := s.sign(c.when, c.want)
			if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v, want %q", err, c.fails)
			}
			if there, listed, recorded := s.bestBefore(); there != c.there || listed != c.ours || recorded != c.ours {
				t.Errorf("there are %q, listed %q, recorded %q, want %q of which %q are the tool's", there, listed, recorded, c.there, c.ours)
			}
			if changed, err := s.sign(c.when, c.want); changed || (err == nil) != (c.fails == "") {
				t.Errorf("again: changed %v, %v", changed, err)
			}
		})
	}
}

// A renewal moves the file where there is one, and leaves all else as it is.
func TestRenewBestBefore(t *testing.T) {
	t.Parallel()
	records := func(s *site) *state.Dir { return state.New(s.dir, ".repo/state", ".repo/tmp") }
	list := func(s *site) string {
		data, _ := os.ReadFile(s.at("SHA256SUMS"))
		return string(data)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		before func(s *site)
		ctx    context.Context
		want   string
		fails  string
	}{
		{"there is one", func(s *site) { s.sign(may, true); s.expires(june) }, t.Context(), "2027-05-31", ""},
		{"it is right", func(s *site) { s.sign(june, true) }, t.Context(), "2027-05-31", ""},
		{"there is none", func(s *site) { s.sign(may, false); s.expires(june) }, t.Context(), "", ""},
		{"the list is malformed", func(s *site) { s.sign(may, false); os.WriteFile(s.at("SHA256SUMS"), []byte("x"), 0o666) }, t.Context(), "", ""},
		{"one list for all", func(s *site) { s.sign(may, true); oneList(t, s.dir); s.expires(june) }, t.Context(), "2027-05-31", ""},
		{"no timestamp", func(s *site) { s.sign(may, true); os.RemoveAll(s.at("tuf")) }, t.Context(), "2027-05-01", "not signed"},
		{"cancelled", func(s *site) { s.sign(may, true); s.expires(june) }, cancelled, "2027-05-01", "context canceled"},
	} {
		s := newSite(t)
		c.before(s)
		day := func(s string) string { return strings.NewReplacer("2027-05-01", "", "2027-05-31", "").Replace(s) }
		before := day(list(s))
		err := RenewBestBefore(c.ctx, s.dir, records(s))
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, listed, _ := s.bestBefore(); listed != c.want || day(list(s)) != before {
			t.Errorf("%s: listed is %q in\n%s", c.name, listed, list(s))
		}
		if there, _, _ := s.bestBefore(); err == nil && there != c.want {
			t.Errorf("%s: there are %q", c.name, there)
		}
	}
}

// The file is recorded, written, named, and the one before removed when no list names it. A
// run that ends at any of these changes leaves a list whose files are there, and the next
// run leaves one file.
func TestOrderOfBestBefore(t *testing.T) {
	t.Parallel()
	want := []string{".repo/state/BEST-BEFORE-2027-05-31.json", "BEST-BEFORE-2027-05-31", "SHA256SUMS", "BEST-BEFORE-2027-05-01", ".repo/state/BEST-BEFORE-2027-05-01.json"}
	for ends := 0; ; ends += testdata.Scale(1, 3) {
		s := newSite(t)
		s.sign(may, true)
		s.expires(june)
		var order []string
		n := 0
		stop := atomicfile.Observe(s.path, func(change atomicfile.Change) error {
			if n++; n > ends {
				return context.Canceled
			}
			switch change.Kind {
			case atomicfile.Rename:
				order = append(order, change.To)
			case atomicfile.Remove:
				order = append(order, change.Name)
			}
			return nil
		})
		observed, err := atomicfile.Open(s.path)
		if err != nil {
			t.Fatal(err)
		}
		err = RenewBestBefore(t.Context(), observed, state.New(observed, ".repo/state", ".repo/tmp"))
		stop()
		observed.Close()
		there, listed, _ := s.bestBefore()
		if !slices.Contains(strings.Fields(there), listed) || listed == "" {
			t.Errorf("ended before change %d: there are %q, listed is %q", ends, there, listed)
		}
		if _, err := s.sign("2027-07-01T00:00:00Z", true); err != nil {
			t.Error(err)
		}
		if there, listed, recorded := s.bestBefore(); there != "2027-07-01" || listed != there || recorded != there {
			t.Errorf("ended before change %d, then another run: there are %q, listed %q, recorded %q", ends, there, listed, recorded)
		}
		if err == nil {
			if !slices.Equal(order, want) {
				t.Errorf("the order is %q, want %q", order, want)
			}
			return
		}
	}
}

// In the lists that a run writes, the file that the run before has named stays until the
// mirror is signed.
func TestKeepBestBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.sign(may, true)
	for _, keep := range []bool{true, false} {
		s.open(Page{}, "c")
		s.docs.KeepBestBefore(keep)
		s.docs.Withdraw(image1)
		if _, err := s.docs.Write(t.Context()); err != nil {
			t.Fatal(err)
		}
		if there, listed, _ := s.bestBefore(); there != "2027-05-01" || (listed == there) != keep {
			t.Errorf("keep %v: there is %q, listed %q", keep, there, listed)
		}
	}
	if lines := listed(t, s.dir, mirror.SHA256); len(lines) == 0 {
		t.Error("nothing is listed")
	}
}
