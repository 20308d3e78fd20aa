// Package stats tells the other programs of a host how far its update is.
//
// They learn it from a file, image_update.stats in the images directory: Puavo's
// desktop applet shows it, and so do scripts of administrators, some of which go
// by the order of its words. It has three lines, each a key, one space and a value:
//
//	image puavo-os-amxa-buster-2022-01-20-173248-amd64.img
//	phase image_patch
//	progress 42
//
// image is the file name of the image that is made; before that is known the
// value is empty, and its space is there still. progress tells in percent,
// rounded down, how much of the phase is done, a whole number from 0 to 100. The
// phases are those of the installed client, a shell script:
//
//	starting        nothing is known yet                                0
//	checksums_fetch what the mirror has is fetched                      1
//	rdiff_fetch     a delta is fetched                                 75
//	rdiff_checksum  the delta is verified                              80
//	image_patch     the image is made from a base and the delta        90
//	image_download  the full image is fetched                          90
//	image_sync      the full image is fetched, by what differs         90
//	image_checksum  the image is verified                             100
//	finished        there is a new image; progress is 100
//	uptodate        there is no newer image; progress is 100
//	error           the update failed; progress is 0
//	interrupted     the update was stopped, and goes on later; progress is 0
//
// The numbers on the right are the percent of the whole update that the applet
// shows at the end of the phase. Any other phase it shows as "???". An update
// takes one of the ways to an image, rdiff_fetch to image_patch or image_download
// or image_sync, so not all phases come.
//
// The file is written beside itself, with .tmp added to its name, and renamed, so
// that no reader sees a part of it. It is not flushed to the disk: after a power
// cut it may be empty, or tell of an update that goes on no more. It is left as it
// is where nothing has changed. It is not removed after the update.
package stats

import (
	"fmt"
	"log/slog"
	"math/bits"
	"path/filepath"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Name is the name that the file has in the images directory.
const Name = "image_update.stats"

// The phases of an update.
const (
	Starting       = "starting"
	ChecksumsFetch = "checksums_fetch"
	RdiffFetch     = "rdiff_fetch"
	RdiffChecksum  = "rdiff_checksum"
	ImagePatch     = "image_patch"
	ImageDownload  = "image_download"
	ImageSync      = "image_sync"
	ImageChecksum  = "image_checksum"
	Finished       = "finished"
	UpToDate       = "uptodate"
	Error          = "error"
	Interrupted    = "interrupted"
)

// File is the file that is written. A nil File writes nothing. It is not for
// concurrent use, and only one process writes it, who holds the lock of the images
// directory.
type File struct {
	path   string
	log    *slog.Logger
	told   state
	warned bool
}

// state is what the file tells.
type state struct {
	image, phase string
	percent      int
}

// New returns the file of this path, "" for none. Nothing is written yet. log takes
// the warning that it cannot be written.
func New(path string, log *slog.Logger) *File {
	if path == "" {
		return nil
	}
	return &File{path: path, log: log}
}

// Phase tells that an update is in this phase, and has done so many of the bytes
// of it. image is a file name without white space, "" where it is not known yet.
// A total of 0 stands for one that is not known: the progress is 0 then.
//
// It can be called for every block: only a percent that is new is written. The
// update does not depend on it, so there is no error; the first one is a warning
// in the log.
func (f *File) Phase(image, phase string, done, total int64) {
	if f == nil {
		return
	}
	now := state{image, phase, percent(phase, done, total)}
	if now == f.told {
		return
	}
	f.told = now
	if err := f.write(now); err != nil && !f.warned {
		f.warned = true
		f.log.Warn("how far the update is cannot be told to other programs", "file", f.path, "reason", err)
	}
}

// write replaces the file. The directory is opened each time: it may be one that
// comes later.
func (f *File) write(s state) error {
	dir, err := atomicfile.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.NoSync = true
	name := filepath.Base(f.path)
	text := fmt.Sprintf("image %s\nphase %s\nprogress %d\n", s.image, s.phase, s.percent)
	_, err = dir.Replace(name+".tmp", name, []byte(text))
	return err
}

// percent returns which part of a phase is done, rounded down.
func percent(phase string, done, total int64) int {
	switch {
	case phase == Finished || phase == UpToDate:
		return 100
	case phase == Starting || phase == Error || phase == Interrupted:
		return 0
	case done <= 0 || total <= 0:
		return 0
	case done >= total:
		return 100
	}
	high, low := bits.Mul64(uint64(done), 100)
	n, _ := bits.Div64(high, low, uint64(total))
	return int(n)
}
