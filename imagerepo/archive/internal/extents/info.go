package extents

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Export is what nbdinfo prints of an export.
type Export struct {
	Size     int64    // bytes
	Contexts []string // such as qemu:dirty-bitmap:NAME
}

// ParseExport parses what nbdinfo prints of one export.
func ParseExport(data []byte) (e Export, err error) {
	var doc struct {
		Exports []struct {
			Contexts []string
			Size     *int64 `json:"export-size"`
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return e, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(doc.Exports) != 1 {
		return e, fmt.Errorf("%w: it has %d exports, want one", ErrFormat, len(doc.Exports))
	}
	x := doc.Exports[0]
	if x.Size == nil || !plausible(*x.Size) {
		return e, fmt.Errorf("%w: the export has no size", ErrFormat)
	}
	return Export{*x.Size, x.Contexts}, nil
}

func plausible(size int64) bool { return size >= 1 && size <= maxSize }

// Image is what qemu-img prints of a disk.
type Image struct {
	Size    int64    // bytes
	Bitmaps []string // that are complete
	// Broken are the bitmaps that are not, since who wrote to the disk has not closed it.
	Broken []string
	// Outside is a file besides this one that the disk is made from, "" for none.
	Outside   string
	Encrypted bool
}

// ParseImage parses what qemu-img info prints of a disk of a format, such as qcow2.
func ParseImage(data []byte, format string) (i Image, err error) {
	var doc struct {
		Size      *int64 `json:"virtual-size"`
		Format    string
		Backing   *string `json:"backing-filename"`
		Full      *string `json:"full-backing-filename"`
		Encrypted bool
		Specific  struct {
			Data struct {
				DataFile *string `json:"data-file"`
				Encrypt  *struct{}
				Bitmaps  []struct {
					Name  string
					Flags []string
				}
			}
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return i, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if doc.Size == nil || !plausible(*doc.Size) || doc.Format != format {
		return i, fmt.Errorf("%w: it lacks the size of a disk, or is no %s", ErrFormat, format)
	}
	i.Size, i.Encrypted = *doc.Size, doc.Encrypted || doc.Specific.Data.Encrypt != nil
	for _, other := range []*string{doc.Backing, doc.Full, doc.Specific.Data.DataFile} {
		if other != nil && i.Outside == "" {
			i.Outside = *other
			if i.Outside == "" {
				i.Outside = "another file"
			}
		}
	}
	for _, b := range doc.Specific.Data.Bitmaps {
		if slices.Contains(b.Flags, "in-use") {
			i.Broken = append(i.Broken, b.Name)
		} else if slices.Contains(b.Flags, "auto") {
			i.Bitmaps = append(i.Bitmaps, b.Name)
		}
	}
	return i, nil
}
