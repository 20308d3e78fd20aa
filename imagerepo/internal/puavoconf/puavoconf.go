// Package puavoconf reads the definitions of puavo-conf, the settings of
// Puavo-OS, out of an image of it, without root and without mounting.
//
// # What is read
//
// An image is a squashfs 4.0 file system whose blocks, of 4 KiB to 1 MiB, are
// compressed with gzip, lzo, lz4, xz (of the filters -Xbcj only that for x86) or zstd;
// package squashfs below has the format. The definitions are its files
// /usr/share/puavo-conf/definitions/*.json, as the shell takes that pattern: names
// with a leading dot are not meant. Each file is a JSON object with a member for
// each setting:
//
//	{
//	  "puavo.hosttype": {
//	    "typehint": "string",
//	    "choices": ["fatclient", "thinclient", "laptop"],
//	    "default": "laptop",
//	    "description": "..."
//	  }
//	}
//
// No setting is defined twice, so that the order of the files does not matter.
// What is inside the definition of a setting is not looked at.
//
// Symbolic links are followed as long as they are relative and stay inside the
// image. Anything other than a regular file at their end is skipped.
//
// # Limits
//
// Images are not trusted. Whatever an image contains, reading it takes about 100 MiB
// of memory at a time, and some 20 seconds of a processor, at most:
//
//   - 4 MiB for a file of definitions, 32 MiB for all of them
//   - 4096 names in their directory
//   - 65536 settings
//   - the limits of package squashfs, for blocks, directories and links, and for
//     what it does in all
//
// # Sources
//
//   - https://github.com/puavo-org/puavo-os, parts/conf: README.md, and
//     puavo-conf-update.c, which reads the same files on a running system
//   - https://docs.kernel.org/filesystems/squashfs.html
//   - https://dr-emann.github.io/squashfs/squashfs.html
package puavoconf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/meta/untrusted"
)

// dir is the directory of the definitions, relative to the root of the image.
const dir = "usr/share/puavo-conf/definitions"

// ErrNone is wrapped in the errors of [Read] that say that an image has no
// definitions, or none that can be got at. An image may well be published
// without them, with a warning.
var ErrNone = errors.New("no puavo-conf definitions")

// Read returns the settings that are defined in the squashfs image of size
// bytes: for each, its name and its definition, compact JSON.
//
// An error is one of these:
//
//   - It wraps [ErrNone], and says why: image is no squashfs, or is damaged, or has
//     no directory of definitions, or no *.json file in it.
//   - It says that image is a squashfs that is cut off: one that is still being
//     copied, most often.
//   - It names the file of definitions that is not a JSON object or is too large,
//     that defines a setting for the second time, with the first file, or one too
//     many; or it says that there are too many files.
//   - It wraps an error of image, or is the one of ctx.
//
// Read reads at any offsets, a megabyte of a usual image in some dozen reads. It
// may be called concurrently.
func Read(ctx context.Context, image io.ReaderAt, size int64) (map[string]json.RawMessage, error) {
	files, err := readFiles(ctx, image, size)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return merge(files)
}

// file is a file of definitions.
type file struct {
	name string
	data []byte
}

// merge returns the members of the objects in files.
func merge(files []file) (map[string]json.RawMessage, error) {
	all := make(map[string]json.RawMessage)
	from := make(map[string]string) // the file of a key
	for _, f := range files {
		err := members(f.data, func(key string, value json.RawMessage) error {
			if first, ok := from[key]; ok {
				return fmt.Errorf("%s is already defined in %s; remove one", untrusted.Quote(key), path(first))
			}
			if len(all) == maxSettings {
				return fmt.Errorf("the image defines more than %d settings", maxSettings)
			}
			all[key], from[key] = value, f.name
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s in the image: %w", path(f.name), err)
		}
	}
	return all, nil
}

// members calls add with each member of the JSON object in data, in order.
func members(data []byte, add func(key string, value json.RawMessage) error) error {
	if err := validate(data); err != nil {
		return err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return err
	}
	d := json.NewDecoder(&compact)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("the JSON is not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		if err := add(key.(string), value); err != nil {
			return err
		}
	}
	return nil
}

// validate returns where data is not JSON. The offsets of a [json.Decoder] are
// of no use for this: they leave out some of what it has read.
func validate(data []byte) error {
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("bad JSON at byte %d: %w", s.Offset, err)
	}
	return err
}
