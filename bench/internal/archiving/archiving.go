// Package archiving measures what stores of many versions of an image take: our archive, with
// rdiff and with compact deltas, restic, desync, and casync. It measures the bytes of a store, the
// time of adding, and how fast versions come out again, which are compared with the images.
package archiving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/report"
)

// Options say what is stored. All paths are absolute.
type Options struct {
	Images   []string // versions of one image, oldest first, at least one
	Archiver string   // our command, puavo-update-repository
	Tmp      string   // an empty directory on the file system of the images
	Versions int      // of the generated image, at least one
	Size     int64    // bytes of each
	Log      io.Writer
}

// Measure stores the images in all stores, and generated ones in our own, and writes a report
// without its title. Stores that are not installed are named.
func Measure(ctx context.Context, o Options, w io.Writer) error {
	all := stores(o)
	preface(w, all)
	if err := o.compare(ctx, all, w); err != nil {
		return err
	}
	return o.chains(ctx, w)
}

// preface writes what the results are of.
func preface(w io.Writer, all []store) {
	for _, s := range all {
		switch {
		case s.tool == "":
		case installed(s.tool):
			fmt.Fprintf(w, "- %s\n", strings.TrimSpace(s.tool+" "+strings.TrimPrefix(measure.FirstLine(s.version...), s.tool+" ")))
		default:
			fmt.Fprintf(w, "- not installed: %s\n", s.tool)
		}
	}
	fmt.Fprintln(w, `
Each version is added by a run of its own, oldest first, and restored with warm caches; what comes out is compared with the image. "share"
is that of the size of all versions. "add" is all runs together, with the flushes that the tool does by itself. Restored files are not
flushed, with --no-sync for ours. MB/s is the size of the version by the time of the whole command. Memory is the peak of anonymous
memory; ours maps the files of the archive, which is not in it.`)
}

// measured is what was measured of a store.
type measured struct {
	bytes    int64
	add      measure.Figures
	restores []measure.Figures // those of the versions that were asked for
}

// compare stores the images in all stores.
func (o Options) compare(ctx context.Context, all []store, w io.Writer) error {
	var whole int64
	for _, image := range o.Images {
		info, err := os.Stat(image)
		if err != nil {
			return err
		}
		whole += info.Size()
	}
	newest := len(o.Images) - 1
	fmt.Fprintf(w, "\n## Stores\n\n%d versions of %s bytes in all.\n\n", len(o.Images), report.Group(whole))
	t := report.NewWriter(w, "store", "MB", "share", "add s", "add CPU s", "add memory MB", "newest MB/s", "newest CPU s", "oldest MB/s", "oldest CPU s")
	t.Line("whole images", report.Tenths(float64(whole)/1e6), "1.000", "-", "-", "-", "-", "-", "-", "-")
	for _, s := range all {
		if s.tool != "" && !installed(s.tool) {
			continue
		}
		m, err := o.run(ctx, s, o.Images, []int{newest, 0})
		if err != nil {
			return err
		}
		t.Line(s.name, report.Tenths(float64(m.bytes)/1e6), report.Thousandths(float64(m.bytes)/float64(whole)),
			report.Hundredths(m.add.Seconds), report.Hundredths(m.add.CPU), report.MB(float64(m.add.Anonymous)),
			rate(o.Images[newest], m.restores[0]), report.Hundredths(m.restores[0].CPU),
			rate(o.Images[0], m.restores[1]), report.Hundredths(m.restores[1].CPU))
	}
	return t.Flush()
}

// ages are the versions that are restored through chains, counted from the newest as 1.
var ages = []int{1, 5, 16}

// chains stores generated versions in our archive, and restores them through their deltas.
func (o Options) chains(ctx context.Context, w io.Writer) error {
	dir := filepath.Join(o.Tmp, "generated")
	if err := (generate.Images{Series: 1, Versions: o.Versions, Size: o.Size}).Write(ctx, dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	images, err := filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n## Chains\n\n%d generated versions of about %s bytes each.\n\n", o.Versions, report.Group(o.Size))
	t := report.NewWriter(w, "restored", "deltas", "time s", "MB/s", "CPU s", "memory MB")
	for _, s := range ours(o) {
		var which []int
		for _, age := range ages {
			if i := max(len(images)-age, 0); !slices.Contains(which, i) {
				which = append(which, i)
			}
		}
		m, err := o.run(ctx, s, images, which)
		if err != nil {
			return err
		}
		for i, f := range m.restores {
			t.Line(fmt.Sprintf("%s, version %d", s.name, len(images)-which[i]), len(images)-1-which[i], report.Hundredths(f.Seconds),
				rate(images[which[i]], f), report.Hundredths(f.CPU), report.MB(float64(f.Anonymous)))
		}
	}
	return t.Flush()
}

// rate returns the MB/s at which a version was restored.
func rate(image string, f measure.Figures) string {
	info, err := os.Stat(image)
	if err != nil || f.Seconds == 0 {
		return "-"
	}
	return report.Tenths(float64(info.Size()) / 1e6 / f.Seconds)
}

// run adds images to a store, one by one, and restores some of them. The store is removed.
func (o Options) run(ctx context.Context, s store, images []string, which []int) (m measured, err error) {
	dir := filepath.Join(o.Tmp, "store")
	defer func() {
		os.RemoveAll(dir)
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
		}
	}()
	if err := os.Mkdir(dir, 0o777); err != nil {
		return m, err
	}
	for _, command := range s.begin {
		if _, err := s.measure(ctx, command(dir)); err != nil {
			return m, err
		}
	}
	for _, image := range images {
		f, err := o.add(ctx, s, dir, image)
		if err != nil {
			return m, err
		}
		m.add.Seconds += f.Seconds
		m.add.CPU += f.CPU
		m.add.Anonymous = max(m.add.Anonymous, f.Anonymous)
	}
	if m.bytes, err = size(dir); err != nil {
		return m, err
	}
	for _, i := range which {
		f, err := o.restore(ctx, s, dir, images[i])
		if err != nil {
			return m, err
		}
		m.restores = append(m.restores, f)
	}
	fmt.Fprintf(o.Log, "%s: %d bytes of %d versions, added in %.1f s\n", s.name, m.bytes, len(images), m.add.Seconds)
	return m, nil
}

// add adds an image, which is in a directory of its own.
func (o Options) add(ctx context.Context, s store, dir, image string) (f measure.Figures, err error) {
	in := filepath.Join(o.Tmp, "in")
	if err := os.Mkdir(in, 0o777); err != nil {
		return f, err
	}
	defer os.RemoveAll(in)
	link := filepath.Join(in, filepath.Base(image))
	if err := os.Link(image, link); err != nil {
		return f, err
	}
	if err := files.Warm([]string{link}); err != nil {
		return f, err
	}
	return s.measure(ctx, s.add(dir, link))
}

// restore restores an image, and compares it.
func (o Options) restore(ctx context.Context, s store, dir, image string) (f measure.Figures, err error) {
	out := filepath.Join(o.Tmp, "out")
	if err := os.Mkdir(out, 0o777); err != nil {
		return f, err
	}
	defer os.RemoveAll(out)
	link := filepath.Join(o.Tmp, "in", filepath.Base(image))
	command, file := s.restore(dir, link, out)
	if f, err = s.measure(ctx, command); err != nil {
		return f, err
	}
	return f, files.Same(file, image)
}

var errEmpty = errors.New("the store is empty")

// size returns the bytes of the files of a directory. One with two names counts once.
func size(dir string) (sum int64, err error) {
	var seen []fs.FileInfo
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if linked(info) {
			for _, other := range seen {
				if os.SameFile(other, info) {
					return nil
				}
			}
			seen = append(seen, info)
		}
		sum += info.Size()
		return nil
	})
	if err == nil && sum == 0 {
		err = errEmpty
	}
	return sum, err
}
