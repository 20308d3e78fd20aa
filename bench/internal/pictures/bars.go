package pictures

import (
	"math"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/chart"
	"puavo-image-repository/bench/internal/report"
)

// column is a column of a table that a picture shows, and the title of its axis.
type column struct{ name, axis string }

// peers returns the pictures of tables of peers.
func peers(name string, tables []report.Table) []picture {
	return bars(name, "peer", "Making a delta,", tables, []column{
		{"time s", "time, seconds"},
		{"delta MB", "size of the delta, MB"},
	})
}

// builders returns the pictures of tables of builders of repositories.
func builders(name string, tables []report.Table) []picture {
	return bars(name, "builder", "Building a whole repository, corpus", tables, []column{
		{"time s", "time, seconds"},
		{"CPU s", "CPU, seconds"},
		{"memory MB", "memory, MB"},
		{"delta MB", "size of all deltas, MB"},
	})
}

// clients returns the pictures of tables of clients.
func clients(name string, tables []report.Table) []picture {
	return bars(name, "client", "Updating an image,", tables, []column{
		{"time s", "time, seconds"},
		{"CPU s", "CPU, seconds"},
		{"memory MB", "memory, MB"},
		{"written MB", "written to the disk, MB"},
	})
}

// bars returns a picture of each table whose first column has a name, of those of the
// columns that it has.
func bars(name, first, title string, tables []report.Table, columns []column) (all []picture) {
	for _, t := range tables {
		if t.Columns[0] != first || len(t.Rows) == 0 {
			continue
		}
		c := chart.Bars{Title: title + " " + t.Heading, Rows: t.Names()}
		for _, row := range c.Rows {
			c.Ours = append(c.Ours, strings.HasPrefix(row, "ours"))
		}
		for _, col := range columns {
			values, ok := t.Column(col.name)
			if ok && slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) }) {
				c.Panels = append(c.Panels, chart.Panel{Axis: col.axis, Values: values})
			}
		}
		if len(c.Panels) > 0 {
			all = append(all, picture{name + "-" + report.Slug(t.Heading), c.Title, t.End, c.SVG})
		}
	}
	return all
}
