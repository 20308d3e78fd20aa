// Package grub keeps the boot menu of a Puavo machine in step with its images directory.
//
// # The labels
//
// The menu boots the image that has a label:
//
//	puavo-os-amxa-buster-2022-01-20-173248-amd64.default   the default link points to it
//	puavo-os-amxa-buster-2022-01-17-120001-amd64.backup    the backup link does
//
// A label is an empty file with the name of the image, its .img replaced. What is not
// empty is no label, so a copy that ends in .backup stays.
//
// # The environment block
//
// What a user has chosen in the menu stays the default of the machine: the menu has
// stored it in boot/grub/grubenv below the images directory, in the variables
//
//	puavo_grub_puavo_os_default_image
//	puavo_grub_puavo_os_default_mode
//
// When another image is put to use, these are removed by grub-editenv(1), so that the
// machine boots that image. The installed client does the same.
package grub

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

const (
	defaultLabel = ".default"
	backupLabel  = ".backup"
)

// SetLabels labels the default image of an images directory and its backup, which is the
// zero Name if there is none, and removes the labels of all other images. The lock of the
// directory must be held. At any instant, also after a power cut, the default image of
// before is labelled, or the new one, or both. Called again, SetLabels completes what
// was cut short.
func SetLabels(images atomicfile.Dir, deflt, backup meta.Name) error {
	labels := []string{deflt.ID() + defaultLabel}
	if (backup != meta.Name{}) {
		labels = append(labels, backup.ID()+backupLabel)
	}
	err := touch(images, labels)
	if err == nil {
		err = removeOthers(images, labels)
	}
	if err != nil {
		return fmt.Errorf("the labels for GRUB in %s: %w", images.Name(), err)
	}
	return nil
}

// touch makes empty files, but for those that exist, and flushes their names.
func touch(images atomicfile.Dir, labels []string) error {
	for _, label := range labels {
		if _, err := images.Lstat(label); err == nil {
			continue
		}
		f, err := images.Begin(label, "")
		if err != nil {
			return err
		}
		if err := f.Keep(); err != nil {
			return err
		}
	}
	return images.SyncDir(".")
}

// removeOthers removes all labels but these.
func removeOthers(images atomicfile.Dir, labels []string) error {
	entries, err := fs.ReadDir(images.FS(), ".")
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !isLabel(e) || slices.Contains(labels, e.Name())
	})
	if len(entries) == 0 {
		return nil
	}
	for _, e := range entries {
		if err := images.Remove(e.Name()); err != nil {
			return err
		}
	}
	return images.SyncDir(".")
}

// isLabel reports whether a file is the label of an image.
func isLabel(e fs.DirEntry) bool {
	kind := path.Ext(e.Name())
	if kind != defaultLabel && kind != backupLabel {
		return false
	}
	if _, err := meta.ParseOldName(strings.TrimSuffix(e.Name(), kind) + ".img"); err != nil {
		return false
	}
	info, err := e.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}
