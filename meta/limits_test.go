package meta

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// A document that is made to cost is refused, and costs hardly more than its size.
func TestLimits(t *testing.T) {
	n := testdata.Scale(10<<20, 1<<20)
	many := func(s string, n int) string { return strings.Repeat(s+",", n-1) + s }
	series := func(images string) string { return `{"a": {"images": [` + images + `]}}` }
	for _, c := range []struct {
		name, doc, says string
	}{
		{"too many images", series(many("{}", n)), "more than 10000"},
		{"too many diffs", series(`{"diffs": [` + many("{}", n) + `]}`), "more than 10000"},
		{"too many URLs", series(`{"urls": [` + many(`""`, n) + `]}`), "more than 10000"},
		{"too large", series(strings.Repeat(" ", MaxDocument)), "at most"},
		{"too deep", series(strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)), "depth"},
		{"images that are no array", `{"a": {"images": {}}}`, "not an array"},
		{"an element of another kind", series(`{}, 7`), "[1]: "},
	} {
		var err error
		took := testdata.Allocated(func() { _, err = ParseSeries([]byte(c.doc)) })
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.says)
		}
		if took > 64<<20+uint64(2*len(c.doc)) {
			t.Errorf("%s: %d bytes of memory for %d", c.name, took, len(c.doc))
		}
	}
	if _, err := ParseIndex([]byte(`{"series": [` + many("{}", n) + `]}`)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "more than 10000") {
		t.Errorf("an index of too many: %v", err)
	}
}
