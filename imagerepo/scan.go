package imagerepo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

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
