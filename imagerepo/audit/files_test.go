package audit

import (
	"context"
	"errors"
	"slices"
	"testing"

	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/state"
)

// A file is at fault, or a document, or two documents contradict each other.
func TestContent(t *testing.T) {
	sums := sumsOf([]byte("x"))
	right := valuesOf(sums)
	wrong, other := values{size: "2"}, values{size: "3"}
	for _, c := range []struct {
		name           string
		claims         []claim
		bad            bool
		broken         string // the document of the claim
		contradictions []string
	}{
		{"no claims", nil, false, "", nil},
		{"as claimed", []claim{{"a", right}, {"b", values{}}}, false, "", nil},
		{"not as claimed", []claim{{"a", values{}}, {"b", wrong}, {"c", wrong}}, false, "b", nil},
		{"one is right", []claim{{"a", wrong}, {"b", right}}, false, "", []string{"size is 2 in a and 1 in b; the file agrees with b"}},
		{"the first is right", []claim{{"a", right}, {"b", wrong}}, false, "", []string{"size is 1 in a and 2 in b; the file agrees with a"}},
		{"none is right", []claim{{"a", wrong}, {"b", other}}, true, "a", []string{"size is 2 in a and 3 in b"}},
		{"each pair", []claim{{"a", wrong}, {"b", other}, {"c", wrong}}, true, "a", []string{"size is 2 in a and 3 in b", "size is 3 in b and 2 in c"}},
		{"right of something else", []claim{{"a", wrong}, {"b", values{crc: right[crc]}}}, false, "a", nil},
	} {
		content := &content{file: &file{claims: c.claims}, sums: sums, bad: c.bad}
		_, by, broken := content.brokenClaim()
		if by.from != c.broken || broken != (c.broken != "") {
			t.Errorf("%s: broken %v by %q, want %q", c.name, broken, by.from, c.broken)
		}
		if got := content.contradictions(); !slices.Equal(got, c.contradictions) {
			t.Errorf("%s: %q, want %q", c.name, got, c.contradictions)
		}
	}
}

// A file whose digests are cached is read again only if its stamp changed, a document
// always.
func TestChecker(t *testing.T) {
	const documents, payload = 7, 6 // with the page
	for _, c := range []struct {
		name           string
		between        func(p place)
		unread         int
		want           [][3]string
		stopped, ended bool // the second look ends at once, or after all files were examined
	}{
		{"nothing changed", func(place) {}, documents, nil, false, false},
		{"an image changed", func(p place) { p.rot(newer) }, documents + 1, [][3]string{{"modified", newer, "sha256 is "}}, false, false},
		{"an image is gone", func(p place) { p.remove(newer) }, documents, [][3]string{{"missing", newer, "name it"}}, false, false},
		{"cancelled", func(place) {}, 0, nil, true, false},
		{"cancelled before files are read", func(place) {}, documents, nil, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			root := p.view().Root
			all := must(readDocuments(t.Context(), root, newMarks(root))).files()
			cached := new(caches)
			first := &checker{root, nil, cached, newFindings()}
			_, unread, err := first.statAll(t.Context(), all)
			if err != nil || len(unread) != documents+payload || bytesOf(unread) < 1_000_000 {
				t.Fatalf("%d files of %d bytes, %v", len(unread), bytesOf(unread), err)
			}
			if !slices.IsSortedFunc(unread, func(a, b *content) int { return int(b.info.Size() - a.info.Size()) }) {
				t.Error("the largest is not the first")
			}
			check(first.readAll(t.Context(), 2, unread, meter.New(0, nil)))
			expect(t, first.found.sorted().Findings, nil)

			c.between(p)
			stamped := records{newer: {Sums: sumsOf(nil), Stamp: state.Stamp{Size: 1}}} // that of another file
			second := &checker{root, stamped, cached, newFindings()}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.stopped {
				cancel()
			}
			_, unread, err = second.statAll(ctx, all)
			if len(unread) != c.unread {
				t.Errorf("%d are to be read, want %d", len(unread), c.unread)
			}
			if c.ended {
				cancel()
			}
			if err == nil {
				err = second.readAll(ctx, 2, unread, meter.New(0, nil))
			}
			if cancelled := c.stopped || c.ended; cancelled != errors.Is(err, context.Canceled) || !cancelled && err != nil {
				t.Errorf("error %v", err)
			}
			expect(t, second.found.sorted().Findings, c.want)
		})
	}
}

func TestReplaced(t *testing.T) {
	s := state.Stamp{Size: 1, MTime: 2, CTime: 3, Inode: 4}
	linked, copied := s, s
	linked.CTime, copied.Inode = 9, 9
	full := sumsOf(nil)
	for _, c := range []struct {
		name   string
		path   string
		record *state.Record
		want   bool
	}{
		{"no record", newer, nil, false},
		{"a record without sums", newer, &state.Record{}, false},
		{"as recorded", newer, &state.Record{Sums: full, Stamp: s}, false},
		{"another link was made", newer, &state.Record{Sums: full, Stamp: linked}, false},
		{"the recorded copy", newer, &state.Record{Sums: full, Stamp: copied, Copy: linked}, false},
		{"another file", newer, &state.Record{Sums: full, Stamp: copied}, true},
		{"another file, copied", newer, &state.Record{Sums: full, Stamp: copied, Copy: copied}, true},
		{"not where the record's file is", "rdiffs/" + newer, &state.Record{Sums: full, Stamp: copied}, false},
	} {
		r := records{newer: c.record}
		if got := r.replaced(c.path, s); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
