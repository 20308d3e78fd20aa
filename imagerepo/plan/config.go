package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Config is what series files say: which images form a series. The zero Config says
// nothing, so that series are found by scanning the image directory.
type Config struct {
	Series []meta.SeriesConfig
	// ScanRest says that series without images count for nothing, and that the image
	// directory is scanned if no series is left.
	ScanRest bool
}

// Ignored returns an error for each series that wants deltas to images which are not
// its own. No run makes them.
func (c Config) Ignored() (all []error) {
	for _, s := range c.Series {
		var targets []string
		for _, n := range slices.SortedFunc(maps.Keys(s.Extra), meta.Name.Compare) {
			if !slices.Contains(s.Images, n) {
				targets = append(targets, n.String())
			}
		}
		if len(targets) > 0 {
			all = append(all, fmt.Errorf("series %q: extra_rdiffs names %s, not among its images; add them to the images, or remove them from extra_rdiffs", s.Name, strings.Join(targets, ", ")))
		}
	}
	return all
}

// LoadConfig reads series files, which may be pipes. A series may be in only one of
// them, and there must be at least one series. The error for what a file says wraps ErrConfig, that for a file
// that cannot be read does not.
func LoadConfig(ctx context.Context, files []string) (Config, error) {
	c, err := loadSeries(ctx, files)
	if err == nil && len(files) > 0 && len(c.Series) == 0 {
		err = fmt.Errorf("%w: %s names no series", ErrConfig, strings.Join(files, ", "))
	}
	return c, err
}

// LoadPuavoOS reads the series files of a puavo-os source tree,
// config/images/*.json. Its errors are those of LoadConfig.
func LoadPuavoOS(ctx context.Context, dir string) (Config, error) {
	folder := filepath.Join(dir, "config", "images")
	entries, err := os.ReadDir(folder)
	if info, statErr := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && statErr == nil && info.IsDir() {
		return Config{}, fmt.Errorf("%w: %s is not a puavo-os source tree: %w", ErrConfig, dir, err)
	} else if err != nil {
		return Config{}, fmt.Errorf("%s is not a puavo-os source tree: %w; check the path", dir, err)
	}
	var files []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	c, err := loadSeries(ctx, files)
	c.ScanRest = true
	return c, err
}

func loadSeries(ctx context.Context, files []string) (Config, error) {
	var c Config
	in := make(map[string]string)
	for _, file := range files {
		data, err := untrusted.ReadFile(ctx, file, meta.MaxDocument)
		if errors.Is(err, untrusted.ErrTooLarge) {
			return Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
		} else if err != nil {
			return Config{}, fmt.Errorf("the series file: %w; check the path", err)
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
