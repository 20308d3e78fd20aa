// Package report writes the tables of reports, and reads them again.
//
// A report is Markdown that can be read as text too: a title, paragraphs, and
// headings with tables below them. A table has a line of column names, a line of
// dashes, and a line for each row, aligned to the right:
//
//	|   builder | time s |
//	|       --- |   ---: |
//	|      ours |  29.53 |
//
// The name of a column ends with its unit, if it has one. A figure that is not
// known is "-", and thousands may be apart: 1 098 409 532.
package report

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Writer writes a table. What it writes appears with Flush.
type Writer struct{ tabs *tabwriter.Writer }

// NewWriter returns a writer of a table with these columns, the first of which
// names the rows.
func NewWriter(w io.Writer, columns ...string) Writer {
	t := Writer{tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)}
	names, dashes := []any{columns[0]}, []any{"---"}
	for _, c := range columns[1:] {
		names, dashes = append(names, c), append(dashes, "---:")
	}
	t.Line(names...)
	t.Line(dashes...)
	return t
}

// Line adds a row.
func (t Writer) Line(cells ...any) {
	for _, c := range cells {
		fmt.Fprintf(t.tabs, "\t%v ", c)
	}
	fmt.Fprintln(t.tabs, "\t")
}

// Flush writes the table and returns the error of the first write that failed.
func (t Writer) Flush() error { return t.tabs.Flush() }

// Table is a table of a report.
type Table struct {
	Heading string   // that it stands below
	Columns []string // the first one names the rows
	Rows    [][]string
	End     int // how many lines of the report there are to its end
}

// Parse returns the tables of a report in their order. What it does not know as a
// part of a table it skips.
func Parse(text string) (tables []Table) {
	heading, inside, at := "", false, 0
	for line := range strings.Lines(text) {
		at++
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heading = name
		}
		cells := cellsOf(line)
		switch {
		case cells == nil:
			inside = false
		case !inside:
			tables, inside = append(tables, Table{Heading: heading, Columns: cells, End: at}), true
		case strings.HasPrefix(cells[0], "---"):
		default:
			last := &tables[len(tables)-1]
			last.Rows, last.End = append(last.Rows, cells), at
		}
	}
	return tables
}

// cellsOf returns the cells of a line of a table, nil of any other line.
func cellsOf(line string) []string {
	inner, ok := strings.CutPrefix(line, "|")
	if !ok || !strings.HasSuffix(inner, "|") {
		return nil
	}
	cells := strings.Split(strings.TrimSuffix(inner, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// Column returns the figures of the first column of a name, a row each, and false
// if there is no such column. Of a cell that is no number there is NaN.
func (t Table) Column(name string) ([]float64, bool) {
	at := slices.Index(t.Columns, name)
	if at < 0 {
		return nil, false
	}
	var values []float64
	for _, row := range t.Rows {
		values = append(values, number(row, at))
	}
	return values, true
}

// number returns the number in a cell, NaN if there is none.
func number(row []string, at int) float64 {
	if at >= len(row) {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(row[at], " ", ""), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// Names returns the first cells of all rows.
func (t Table) Names() (names []string) {
	for _, row := range t.Rows {
		names = append(names, row[0])
	}
	return names
}

// Picture returns the lines that show a picture that package pictures draws, the dark
// one where the reader has chosen dark colours, and what it is for those who do not
// see it. The report lies in the folder bench.
func Picture(name, alt string) string {
	return fmt.Sprintf(`
<picture>
  <source media="(prefers-color-scheme: dark)" srcset="pictures/%[1]s-dark.svg">
  <img alt="%[2]s" src="pictures/%[1]s-light.svg">
</picture>
`, name, html.EscapeString(alt))
}

// Slug returns a heading up to its colon or comma as a part of a file's name: small
// letters and digits, with dashes between the words.
func Slug(heading string) string {
	if i := strings.IndexAny(heading, ":,"); i > 0 {
		heading = heading[:i]
	}
	words := strings.FieldsFunc(strings.ToLower(heading), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return strings.Join(words, "-")
}

// Tenths writes a number with one digit after the point, Hundredths with two and
// Thousandths with three.
func Tenths(v float64) string      { return strconv.FormatFloat(v, 'f', 1, 64) }
func Hundredths(v float64) string  { return strconv.FormatFloat(v, 'f', 2, 64) }
func Thousandths(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// MB writes a number of bytes in MB; of a process that was too short to be looked
// at there is none.
func MB(v float64) string {
	if v == 0 {
		return "-"
	}
	return Tenths(v / 1e6)
}

// Group writes a number with spaces between thousands.
func Group(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
