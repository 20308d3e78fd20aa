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

	"puavo-image-repository/imagerepo/internal/mirror"
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

// Scan finds the images in the top folder of a directory. Files that end in
// .img but have no image's name are returned as skipped, with the reason; other
// files and folders are nobody's concern. An empty image, which is most likely
// still being copied, is an error, as is a directory without images.
func Scan(dir fs.FS) (images []Image, skipped []error, err error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".img" {
			continue
		}
		im, err := scanImage(dir, e.Name())
		if errors.Is(err, ErrInput) {
			return nil, nil, err
		} else if err != nil {
			skipped = append(skipped, err)
			continue
		}
		images = append(images, im)
	}
	if len(images) == 0 {
		return nil, skipped, fmt.Errorf("%w: no images there (files named <prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img)", ErrInput)
	}
	return images, skipped, nil
}

// unseen is the error for an image that cannot be looked at.
type unseen struct {
	error
	file string
}

func (u unseen) Unwrap() error { return u.error }

func scanImage(dir fs.FS, file string) (Image, error) {
	name, err := meta.ParseName(file)
	if err != nil {
		return Image{}, err
	}
	info, err := fs.Stat(dir, file) // follows a symbolic link
	if err != nil {
		return Image{}, unseen{err, file}
	}
	switch {
	case !info.Mode().IsRegular():
		return Image{}, fmt.Errorf("%s is no regular file", file)
	case info.Size() == 0:
		return Image{}, fmt.Errorf("%w: %s is empty; finish copying it, or remove it", ErrInput, file)
	}
	return Image{name, state.StampOf(info)}, nil
}

// checkPlaces refuses directories that would get mixed up: a mirror that is its
// own image directory, or that lies in another mirror.
func checkPlaces(imageDir, mirrorDir string) error {
	images, err := os.Stat(imageDir)
	if err != nil {
		return err
	}
	if !images.IsDir() {
		return fmt.Errorf("%s is not a directory; give the directory of the images", imageDir)
	}
	if info, err := os.Stat(mirrorDir); err == nil && !info.IsDir() {
		return fmt.Errorf("the mirror %s is not a directory; remove it or give another", mirrorDir)
	}
	here, err := filepath.EvalSymlinks(imageDir)
	if err != nil {
		return err
	}
	if here, err = filepath.Abs(here); err != nil {
		return err
	}
	if inside(here, mirrorDir) {
		return fmt.Errorf("the image directory %s is in the mirror %s; give the directory where the images are made", imageDir, mirrorDir)
	}
	there, err := filepath.Abs(mirrorDir)
	if err != nil {
		return err
	}
	for dir := filepath.Dir(there); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, mirror.Private)); err == nil {
			return fmt.Errorf("the mirror %s is in another mirror, %s; give another directory", mirrorDir, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	want, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true
		}
		if path == filepath.Dir(path) {
			return false
		}
		path = filepath.Dir(path)
	}
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
func groupSeries(images []Image, config Config) ([]meta.SeriesConfig, error) {
	series := slices.Clone(config.Series)
	if config.ScanRest {
		series = slices.DeleteFunc(series, func(s meta.SeriesConfig) bool { return len(s.Images) == 0 })
	}
	if len(series) == 0 {
		series = seriesByName(images)
	}
	slices.SortFunc(series, func(a, b meta.SeriesConfig) int { return strings.Compare(a.Name, b.Name) })
	present := make(map[meta.Name]bool, len(images))
	for _, im := range images {
		present[im.Name] = true
	}
	for _, s := range series {
		if err := checkSeries(s, present); err != nil {
			return nil, fmt.Errorf("series %q: %w", s.Name, err)
		}
	}
	return series, nil
}

// seriesByName groups images by prefix and arch.
func seriesByName(images []Image) []meta.SeriesConfig {
	groups := make(map[string][]meta.Name)
	for _, im := range images {
		groups[im.Name.Series()] = append(groups[im.Name.Series()], im.Name)
	}
	var series []meta.SeriesConfig
	for name := range maps.Keys(groups) {
		slices.SortFunc(groups[name], meta.Name.Compare)
		series = append(series, meta.SeriesConfig{Name: name, Images: groups[name]})
	}
	return series
}

func checkSeries(s meta.SeriesConfig, present map[meta.Name]bool) error {
	for i, n := range s.Images {
		if !present[n] {
			return fmt.Errorf("%w: %s is not in the image directory: %w", ErrConfig, n, fs.ErrNotExist)
		}
		if i > 0 && s.Images[i-1].Version == n.Version {
			return fmt.Errorf("%w: %s and %s have one version; a series can have it once", ErrInput, s.Images[i-1], n)
		}
	}
	for _, n := range s.Images {
		for _, base := range s.Extra[n] {
			if !present[base] {
				return fmt.Errorf("%w: extra_rdiffs of %s: %s is not in the image directory: %w", ErrConfig, n, base, fs.ErrNotExist)
			}
		}
	}
	return nil
}
