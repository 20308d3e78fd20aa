package page

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
)

// view is what the template shows.
type view struct {
	Style  template.CSS
	Policy string
	URL    string // of the host, "" if it is not known
	Root   *rootView
	Series []seriesView

	Images, Deltas, Compact, Torrents    int
	ImageBytes, DeltaBytes, CompactBytes size
}

// Command returns the command line for a client, in parts that stay on one line.
func (v view) Command() []string {
	host := "https://HOST"
	if v.URL != "" {
		host = quoted(v.URL)
	}
	command := []string{"puavo-update-image"}
	if v.Root != nil {
		command = append(command, "--trust root.json")
	}
	return append(command, "--mirror "+host, "--images-dir /images")
}

// count counts what the mirror holds; a file that several series have counts once.
func (v *view) count(series []meta.Series) {
	counted := make(map[string]bool)
	once := func(name string, n int64, files *int, bytes *size) {
		if !counted[name] {
			counted[name] = true
			*files++
			*bytes += size(n)
		}
	}
	for _, s := range series {
		for _, im := range s.Images {
			once(im.Name.String(), im.Sums.Size, &v.Images, &v.ImageBytes)
			for _, d := range im.Diffs {
				once(d.Filename, d.Sums.Size, &v.Deltas, &v.DeltaBytes)
			}
			for _, c := range im.Compact {
				once(c.Filename, c.Sums.Size, &v.Compact, &v.CompactBytes)
			}
		}
	}
}

// rootView is a Root.
type rootView struct {
	Version   int64
	Expires   string
	Keys      []string
	Threshold int
}

func viewRoot(r *Root) *rootView {
	if r == nil {
		return nil
	}
	return &rootView{r.Version, r.Expires.UTC().Format(time.DateOnly), r.Keys, r.Threshold}
}

// size is a number of bytes.
type size int64

// String returns the size for people, such as 1.2 GiB.
func (n size) String() string {
	if n < 1024 {
		return fmt.Sprintf("%d B", int64(n))
	}
	f, unit := float64(n), 0
	for f >= 1023.95 && unit < 4 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f\u00a0%ciB", f, " KMGT"[unit])
}

// seriesView is a series.
type seriesView struct {
	Name   string
	Meta   string      // path of its document
	Newest string      // date of the newest image, "" for none
	Images []imageView // newest first
	Chart  *chart      // nil where there is nothing to compare
	Matrix matrix
}

// imageView is an image.
type imageView struct {
	File           string
	Date           []string // the day and the time
	Size           size
	SHA256, BLAKE3 string // "" where it is not known
	Torrent        string // path, "" where there is none
}

func viewSeries(s *meta.Series, torrents map[string]string) seriesView {
	v := seriesView{Name: s.Name, Meta: meta.SeriesPath(s.Name), Chart: newChart(s), Matrix: newMatrix(s, torrents)}
	for _, im := range slices.Backward(s.Images) {
		v.Images = append(v.Images, imageView{
			im.Name.String(), strings.Fields(dateOf(im.Name)), size(im.Sums.Size), hex(im.Sums.SHA256), hex(im.Sums.BLAKE3),
			torrents[im.Name.String()],
		})
	}
	if newest := s.Newest(); newest != nil {
		v.Newest = dateOf(newest.Name)
	}
	return v
}

func hex(d cksum.Digest256) string {
	if d == (cksum.Digest256{}) {
		return ""
	}
	return d.String()
}

// dateOf returns the date and time in the name of an image: 2022-01-20 17:32 of
// 2022-01-20-173248. Whether it is one in the calendar does not matter.
func dateOf(n meta.Name) string {
	day, clock, ok := cutDay(n)
	if !ok || len(clock) < 4 {
		return n.Version
	}
	return day + " " + clock[:2] + ":" + clock[2:4]
}

// dayOf returns the date in the name of an image.
func dayOf(n meta.Name) string {
	day, _, _ := cutDay(n)
	return day
}

func cutDay(n meta.Name) (day, clock string, ok bool) {
	at := strings.LastIndexByte(n.Version, '-')
	if at < 0 {
		return n.Version, "", false
	}
	return n.Version[:at], n.Version[at+1:], true
}

// matrix has a row for each base and a column for each target of deltas.
type matrix struct {
	Targets []string // versions
	Rows    []matrixRow
	Compact bool // there are compact deltas
}

type matrixRow struct {
	Base    string // version, "" for none
	Retired bool   // it is no longer an image of the series
	Cells   []cell
}

// cell has the deltas from a base to a target, nil where there is none.
type cell struct{ Delta, Compact *deltaView }

// deltaView is a delta.
type deltaView struct {
	Path  string
	Size  size
	Share string // of its target's size

	Torrent string // path, "" where there is none
}

func newMatrix(s *meta.Series, torrents map[string]string) (m matrix) {
	there := map[meta.Name]bool{{}: true}
	var bases []meta.Name
	var columns []map[meta.Name]cell // by base
	for i := range s.Images {
		im := &s.Images[i]
		there[im.Name] = true
		bases = append(bases, im.Name)
		if len(im.Diffs)+len(im.Compact) == 0 {
			continue
		}
		m.Targets = append(m.Targets, im.Name.Version)
		m.Compact = m.Compact || len(im.Compact) > 0
		column := viewDeltas(im, torrents)
		bases = slices.AppendSeq(bases, maps.Keys(column))
		columns = append(columns, column)
	}
	if len(columns) == 0 {
		return matrix{}
	}
	slices.SortFunc(bases, meta.Name.Compare)
	for _, base := range slices.Compact(bases) {
		row := matrixRow{Base: base.Version, Retired: !there[base]}
		for _, column := range columns {
			row.Cells = append(row.Cells, column[base])
		}
		m.Rows = append(m.Rows, row)
	}
	return m
}

// viewDeltas returns the deltas to an image, by base.
func viewDeltas(im *meta.Image, torrents map[string]string) map[meta.Name]cell {
	view := func(path, file string, n int64) *deltaView {
		share := 100 * float64(n) / float64(max(im.Sums.Size, 1))
		return &deltaView{path, size(n), fmt.Sprintf("%.1f\u00a0%%", share), torrents[file]}
	}
	cells := make(map[meta.Name]cell)
	for _, d := range im.Diffs {
		cells[d.Base] = cell{Delta: view(meta.DeltaPath(d.Filename), d.Filename, d.Sums.Size)}
	}
	for _, c := range im.Compact {
		cells[c.Base] = cell{cells[c.Base].Delta, view(meta.CompactPath(c.Filename), c.Filename, c.Sums.Size)}
	}
	return cells
}
