package pictures

import (
	"slices"
	"strconv"
	"strings"

	"puavo-image-repository/bench/internal/chart"
	"puavo-image-repository/bench/internal/report"
)

// farms returns a picture of each kind of deltas: a panel for each table of it, whose heading
// says the kind, a comma, and of what the table is, and a line for each rate of the link.
func farms(name string, tables []report.Table) (all []picture) {
	panels := make(map[string][]chart.Line) // by the name of the picture
	for _, t := range tables {
		kind, of, _ := strings.Cut(t.Heading, ", ")
		panel, ok := farm(t, of)
		if !ok {
			continue
		}
		id := name + "-" + kind
		i := slices.IndexFunc(all, func(p picture) bool { return p.name == id })
		if i < 0 {
			all = append(all, picture{name: id, title: "Times faster than the builder alone, " + kind + " deltas"})
			i = len(all) - 1
		}
		panels[id] = append(panels[id], panel)
		all[i].end, all[i].svg = t.End, chart.Lines{Title: all[i].title, Panels: panels[id]}.SVG
	}
	return all
}

// farm returns the panel of a table, the highest rate first.
func farm(t report.Table, of string) (line chart.Line, ok bool) {
	workers, ok := t.Column("workers")
	if !ok {
		return line, false
	}
	line.XAxis, line.YAxis = "workers, "+of, "times faster"
	keep := func(figures []float64) (kept []float64) {
		for i, n := range workers {
			if n > 0 {
				kept = append(kept, figures[i])
			}
		}
		return kept
	}
	line.X = keep(workers)
	for _, n := range line.X {
		line.Marks = append(line.Marks, strconv.Itoa(int(n)))
	}
	for _, column := range slices.Backward(t.Columns) {
		rate, found := strings.CutPrefix(column, "faster at ")
		if !found {
			continue
		}
		figures, _ := t.Column(column)
		if line.Name == "" {
			line.Name, line.Y = rate, keep(figures)
		} else {
			line.Others = append(line.Others, chart.Curve{Name: rate, Y: keep(figures)})
		}
	}
	return line, line.Name != "" && len(line.X) > 0
}
