package imagerepo

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// ErrInput is wrapped by the errors for input of which nothing can be made:
// no image at all, an empty one, or one that contradicts itself.
var ErrInput = errors.New("unusable input")

// Image is an image of the image directory.
type Image struct {
	Name  meta.Name
	Stamp state.Stamp
}

// Scanned is what an image directory holds.
type Scanned struct {
	Images []Image
	// Unusable are the files with the name of an image that are none that could be
	// published, with the reason.
	Unusable map[meta.Name]error
	// Skipped tells of files that end in .img and have no image's name, or are no
	// files.
	Skipped []error
}

// errUnseen is wrapped by the error for an image that cannot be looked at.
var errUnseen = errors.New("it cannot be looked at")

// Scan finds the images in the top folder of a directory; other files and folders
// are nobody's concern. An empty image is most likely still being copied, so it is
// unusable. A directory without images is an error.
func Scan(dir fs.FS) (Scanned, error) {
	s := Scanned{Unusable: make(map[meta.Name]error)}
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return s, err
	}
	for _, e := range entries {
		if path.Ext(e.Name()) == ".img" {
			s.add(dir, e.Name())
		}
	}
	if len(s.Images)+len(s.Unusable) == 0 {
		return s, fmt.Errorf("%w: no images there (files named <prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img)", ErrInput)
	}
	return s, nil
}

func (s *Scanned) add(dir fs.FS, file string) {
	name, err := meta.ParseName(file)
	if err != nil {
		s.Skipped = append(s.Skipped, err)
		return
	}
	info, err := fs.Stat(dir, file) // follows a symbolic link
	switch {
	case err != nil:
		s.Unusable[name] = fmt.Errorf("%w: %w", errUnseen, err)
	case !info.Mode().IsRegular():
		s.Skipped = append(s.Skipped, fmt.Errorf("%s is no regular file", file))
	case info.Size() == 0:
		s.Unusable[name] = fmt.Errorf("%w: %s is empty; finish copying it, or remove it", ErrInput, file)
	default:
		s.Images = append(s.Images, Image{name, state.StampOf(info)})
	}
}

// refuse makes an image unusable.
func (s *Scanned) refuse(n meta.Name, reason error) {
	s.Images = slices.DeleteFunc(s.Images, func(im Image) bool { return im.Name == n })
	s.Unusable[n] = reason
}

// private returns an error for an image that is a symbolic link out of its directory
// to a file that others may not read: whoever made the link may not know that it
// publishes the file.
func private(imageDir string, n meta.Name) error {
	link := filepath.Join(imageDir, n.String())
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	target, err := filepath.EvalSymlinks(link)
	if err != nil {
		return err
	}
	home, err := filepath.EvalSymlinks(imageDir)
	if err != nil {
		return err
	}
	if home, err = filepath.Abs(home); err != nil {
		return err
	}
	if target, err = filepath.Abs(target); err != nil || filepath.Dir(target) == home {
		return err
	}
	info, err := os.Stat(target)
	if err == nil && info.Mode()&0o004 == 0 {
		err = fmt.Errorf("%s is a symbolic link out of the image directory, to %s, which others may not read (mode %04o); chmod that to 0644 if it is to be published, or allow it with --follow-links",
			link, target, info.Mode().Perm())
	}
	return err
}

// ErrConfig is wrapped by the errors for a series file that is wrong.
var ErrConfig = errors.New("wrong series file")

// Config is what series files say: which images form a series.
type Config struct {
	Series []meta.SeriesConfig
	// ScanRest says that series without images count for nothing, and that the
	// image directory is scanned if no series is left.
	ScanRest bool
}

// LoadConfig reads series files. A series may stand in one of them only, and there
// must be one.
func LoadConfig(files []string) (Config, error) {
	c, err := loadSeries(files)
	if err == nil && len(files) > 0 && len(c.Series) == 0 {
		err = fmt.Errorf("%w: no series is named in %s", ErrConfig, strings.Join(files, ", "))
	}
	return c, err
}

func loadSeries(files []string) (Config, error) {
	var c Config
	in := make(map[string]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		series, err := meta.ParseConfig(data)
		if err != nil {
			return Config{}, fmt.Errorf("%w: %s: %w", ErrConfig, file, err)
		}
		for _, s := range series {
			if other, twice := in[s.Name]; twice {
				return Config{}, fmt.Errorf("%w: series %q is in %s and in %s; keep one", ErrConfig, s.Name, other, file)
			}
			in[s.Name] = file
			c.Series = append(c.Series, s)
		}
	}
	return c, nil
}

// LoadPuavoOS reads the series files of a puavo-os source tree,
// config/images/*.json.
func LoadPuavoOS(dir string) (Config, error) {
	folder := filepath.Join(dir, "config", "images")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %s is no puavo-os source tree: %w", ErrConfig, dir, err)
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	c, err := loadSeries(files)
	c.ScanRest = true
	return c, err
}

// groupSeries says which images form which series, sorted by name, each with
// its images oldest first.
func groupSeries(found Scanned, config Config) []meta.SeriesConfig {
	series := slices.Clone(config.Series)
	if config.ScanRest {
		series = slices.DeleteFunc(series, func(s meta.SeriesConfig) bool { return len(s.Images) == 0 })
	}
	if len(series) == 0 {
		series = seriesByName(found)
	}
	slices.SortFunc(series, func(a, b meta.SeriesConfig) int { return strings.Compare(a.Name, b.Name) })
	return series
}

// seriesByName groups images by prefix and arch.
func seriesByName(found Scanned) []meta.SeriesConfig {
	groups := make(map[string][]meta.Name)
	add := func(n meta.Name) { groups[n.Series()] = append(groups[n.Series()], n) }
	for _, im := range found.Images {
		add(im.Name)
	}
	for n := range found.Unusable {
		add(n)
	}
	var series []meta.SeriesConfig
	for name := range maps.Keys(groups) {
		slices.SortFunc(groups[name], meta.Name.Compare)
		series = append(series, meta.SeriesConfig{Name: name, Images: groups[name]})
	}
	return series
}

// checkSeries returns an error for a series of which an image or a base is not
// there or not usable, or that contradicts itself. usable returns an error for an
// image that is not, after where it is named.
func checkSeries(s meta.SeriesConfig, usable func(n meta.Name, where string) error) error {
	for i, n := range s.Images {
		if err := usable(n, ""); err != nil {
			return err
		}
		if i > 0 && s.Images[i-1].Version == n.Version {
			return fmt.Errorf("%w: %s and %s have one version; a series can have it once", ErrInput, s.Images[i-1], n)
		}
	}
	for _, n := range s.Images {
		for _, base := range s.Extra[n] {
			if err := usable(base, fmt.Sprintf("extra_rdiffs of %s: ", n)); err != nil {
				return err
			}
		}
	}
	return nil
}
