// Package loopdev finds the backing files of the loop devices of this machine: the
// images that are mounted.
package loopdev

import (
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Devices gives the loop devices of a machine.
type Devices struct {
	Blocks fs.FS                              // /sys/block
	Inode  func(device string) (Inode, error) // of the backing file of a loop device such as loop0
}

// Inode identifies a file, also one whose names are all gone.
type Inode struct{ Device, Number uint64 }

// BackingFile is the backing file of a loop device.
type BackingFile struct {
	// Path is the path under which it was opened. It need not lead to the file any
	// longer, or from here.
	Path  string
	Inode Inode // the zero one if it cannot be had; root can have it
}

// Local returns the loop devices of this machine.
func Local() Devices { return Devices{Blocks: os.DirFS("/sys/block"), Inode: inode} }

// BackingFiles returns the backing files of all loop devices that have one.
func (d Devices) BackingFiles() (files []BackingFile) {
	paths, _ := fs.Glob(d.Blocks, "loop*/loop/backing_file") // the pattern is valid
	for _, p := range paths {
		text, err := fs.ReadFile(d.Blocks, p)
		if err != nil {
			continue // the device was detached meanwhile
		}
		file := BackingFile{Path: strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), " (deleted)")}
		if i, err := d.Inode(path.Dir(path.Dir(p))); err == nil {
			file.Inode = i
		}
		files = append(files, file)
	}
	return files
}

// inode asks the kernel for the inode of a backing file.
func inode(device string) (Inode, error) {
	f, err := os.Open("/dev/" + device)
	if err != nil {
		return Inode{}, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return Inode{}, err
	}
	return Inode{info.Device, info.Inode}, nil
}
