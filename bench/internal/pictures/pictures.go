// Package pictures draws the pictures of the reports from the figures that are in
// their tables, so that they can be drawn again without measuring.
//
// A report is a file of the folder bench, and its pictures are
// pictures/NAME-light.svg and pictures/NAME-dark.svg:
//
//	report         NAME                what it shows
//	RESULTS.md     results-SECTION     peers: time to make a delta, and its size
//	RAW.md         raw-SECTION         the same
//	GROWTH.md      growth              time and memory by the size of the image
//	REPOSITORY.md  repository-SECTION  builders: time, memory and deltas
//	READS.md       reads-SECTION       passes over the images by memory
//	CLIENT.md      client-SECTION      clients: time, memory and bytes written
//	FARM.md        farm-KIND           how much faster a farm is by its workers, at each rate of the link
//
// SECTION is the heading above the table, up to its first colon or comma, in small
// letters; -2 follows if there was such a one before. Columns that a report has not, as those of older ones, are left out.
package pictures

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"puavo-image-repository/bench/internal/chart"
	"puavo-image-repository/bench/internal/report"
)

// folder is where the pictures are, in the folder of the reports.
const folder = "pictures"

// reports are those that have pictures.
var reports = []struct {
	file string
	of   func(name string, tables []report.Table) []picture
}{
	{"RESULTS.md", peers},
	{"RAW.md", peers},
	{"GROWTH.md", growth},
	{"REPOSITORY.md", builders},
	{"READS.md", reads},
	{"CLIENT.md", clients},
	{"FARM.md", farms},
}

// picture is a picture of a report.
type picture struct {
	name, title string
	end         int // the line of the report that it follows
	svg         func(chart.Theme) ([]byte, error)
}

// Draw draws the pictures of all reports in a directory, and returns the paths of
// what it wrote. A report that does not show one of its pictures is changed to show
// it, after the table; a report that is not there is left out.
func Draw(dir string) (written []string, err error) {
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
		return nil, err
	}
	for _, r := range reports {
		path := filepath.Join(dir, r.file)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return written, err
		}
		pictures := r.of(strings.ToLower(strings.TrimSuffix(r.file, ".md")), report.Parse(string(text)))
		distinguish(pictures)
		for _, p := range pictures {
			paths, err := p.write(dir)
			if err != nil {
				return written, fmt.Errorf("%s: %w", path, err)
			}
			written = append(written, paths...)
		}
		if shown := show(string(text), pictures); shown != string(text) {
			if err := os.WriteFile(path, []byte(shown), 0o666); err != nil {
				return written, err
			}
			written = append(written, path)
		}
	}
	return written, nil
}

// distinguish gives pictures of the same name different ones: name, name-2, name-3.
func distinguish(pictures []picture) {
	seen := make(map[string]int)
	for i, p := range pictures {
		seen[p.name]++
		if n := seen[p.name]; n > 1 {
			pictures[i].name += "-" + strconv.Itoa(n)
		}
	}
}

// write draws a picture for each theme.
func (p picture) write(dir string) (paths []string, err error) {
	for _, t := range chart.Themes {
		svg, err := p.svg(t)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, folder, p.name+"-"+t.Name+".svg")
		if err := os.WriteFile(path, svg, 0o666); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// show returns a report with the pictures that it does not show yet, each after its
// table.
func show(text string, pictures []picture) string {
	lines := strings.SplitAfter(text, "\n")
	for _, p := range slices.Backward(pictures) {
		if !strings.Contains(text, `"`+folder+"/"+p.name+"-light.svg") {
			lines = slices.Insert(lines, p.end, report.Picture(p.name, p.title))
		}
	}
	return strings.Join(lines, "")
}

// number finds the size that a heading of the corpus growth tells.
var number = regexp.MustCompile(`, (\d+) GB$`)

// growth returns the picture of tables of one size each, of our default effort.
func growth(name string, tables []report.Table) []picture {
	seconds := chart.Line{XAxis: "size of the image, GB", YAxis: "time, seconds"}
	memory := chart.Line{XAxis: "size of the image, GB", YAxis: "anonymous memory, MB"}
	end := 0
	for _, t := range tables {
		m := number.FindStringSubmatch(t.Heading)
		s, m1 := t.Column("time s")
		mb, m2 := t.Column("memory MB")
		if m == nil || !m1 || !m2 || len(s) == 0 || math.IsNaN(s[0]) || math.IsNaN(mb[0]) {
			continue
		}
		gb, _ := strconv.ParseFloat(m[1], 64)
		for line, y := range map[*chart.Line]float64{&seconds: s[0], &memory: mb[0]} {
			line.X, line.Y, line.Marks = append(line.X, gb), append(line.Y, y), append(line.Marks, m[1])
		}
		end = t.End
	}
	if end == 0 {
		return nil
	}
	c := chart.Lines{Title: "Time and memory to make a delta, by the size of the image", Panels: []chart.Line{seconds, memory}}
	return []picture{{name, c.Title, end, c.SVG}}
}

// reads returns the pictures of passes over the images.
func reads(name string, tables []report.Table) (all []picture) {
	for _, t := range tables {
		limits, ok := t.Column("limit MiB")
		passes, there := t.Column("passes")
		if !ok || !there {
			continue
		}
		line := chart.Line{XAxis: "memory that the build may use, page cache included", YAxis: "passes: bytes read / bytes of images",
			Level: 1, LevelText: "each image is read once"}
		for i, limit := range limits {
			if limit > 0 && !math.IsNaN(passes[i]) {
				line.X, line.Y = append(line.X, limit), append(line.Y, passes[i])
				line.Marks = append(line.Marks, size(limit))
			}
		}
		if len(line.X) == 0 {
			continue
		}
		c := chart.Lines{Title: "Passes over the images of a build, by its memory", Panels: []chart.Line{line}}
		all = append(all, picture{name + "-" + report.Slug(t.Heading), c.Title, t.End, c.SVG})
	}
	return all
}

// size writes a number of MiB.
func size(mib float64) string {
	if mib < 1024 {
		return strconv.FormatFloat(mib, 'f', -1, 64) + " MiB"
	}
	return strconv.FormatFloat(mib/1024, 'g', 3, 64) + " GiB"
}
