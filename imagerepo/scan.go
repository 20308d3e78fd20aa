package imagerepo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

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

func scanImage(dir fs.FS, file string) (Image, error) {
	name, err := meta.ParseName(file)
	if err != nil {
		return Image{}, err
	}
	info, err := fs.Stat(dir, file) // follows a symbolic link
	if err != nil {
		return Image{}, err
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
