package report

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestGroup(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := Group(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// What is written is read again.
func TestTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Title\n\n    a | command\n\n## first: a table\n\n")
	w := NewWriter(&b, "peer", "time s", "ratio", "bytes", "ratio")
	w.Line("ours", Hundredths(1.234), Thousandths(0.5), Group(1234567), Tenths(2))
	w.Line("theirs", "failed: no | in it", "", "", "")
	w.Line("none", MB(0), MB(1.25e6))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	end := strings.Count(b.String(), "\n")
	b.WriteString("\nA paragraph.\n\n| a | b |\n| --- | ---: |\n")
	tables := Parse(b.String())
	if len(tables) != 2 || len(tables[1].Rows) != 0 || tables[1].Heading != "first: a table" {
		t.Fatalf("%+v", tables)
	}
	first := tables[0]
	if first.Heading != "first: a table" || first.End != end || !slices.Equal(first.Columns, []string{"peer", "time s", "ratio", "bytes", "ratio"}) ||
		!slices.Equal(first.Names(), []string{"ours", "theirs", "none"}) {
		t.Errorf("%+v, want its end at %d", first, end)
	}
	for name, want := range map[string][3]float64{
		"time s": {1.23, math.NaN(), math.NaN()},
		"ratio":  {0.5, math.NaN(), 1.2},
		"bytes":  {1234567, math.NaN(), math.NaN()},
	} {
		got, ok := first.Column(name)
		if !ok || len(got) != 3 {
			t.Fatalf("%s: %v, %v", name, got, ok)
		}
		for i := range want {
			if got[i] != want[i] && !(math.IsNaN(got[i]) && math.IsNaN(want[i])) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	if got, ok := first.Column("none"); ok {
		t.Errorf("a column that is not there: %v", got)
	}
}

func TestSlug(t *testing.T) {
	for heading, want := range map[string]string{
		"large change: a release": "large-change", "generated, 64 MB": "generated", "../My images": "my-images", "": "", ": a": "a", "real": "real",
	} {
		if got := Slug(heading); got != want {
			t.Errorf("%q: %q, want %q", heading, got, want)
		}
	}
}

func TestPicture(t *testing.T) {
	want := `
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="pictures/name-dark.svg">
  <img alt="&#34;what&#34; it is" src="pictures/name-light.svg">
</picture>
`
	if got := Picture("name", `"what" it is`); got != want {
		t.Errorf("%s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("## a\n| b | c |\n| --- | ---: |\n| 1 | 2 |\n")
	f.Add("|\n||\n| |")
	f.Fuzz(func(t *testing.T, text string) {
		for _, table := range Parse(text) {
			if len(table.Columns) == 0 || table.End > strings.Count(text, "\n")+1 || len(table.Names()) != len(table.Rows) {
				t.Errorf("%+v", table)
			}
			for _, c := range table.Columns {
				if values, ok := table.Column(c); !ok || len(values) != len(table.Rows) {
					t.Errorf("%q: %v", c, values)
				}
			}
		}
	})
}
