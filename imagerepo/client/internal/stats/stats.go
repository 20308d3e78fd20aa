// Package stats writes the file by which other programs of a host learn how far its
// update is.
//
// It is image_update.stats in the images directory. Puavo's desktop applet shows it,
// and so do scripts of administrators, some of which depend on the order of its words.
// It has three lines, each a key, one space and a value:
//
//	image puavo-os-amxa-buster-2022-01-20-173248-amd64.img
//	phase image_patch
//	progress 42
//
// image is the file name of the image that is made; before that is known the value
// is empty, but its space is written. progress is how much of the phase is done, in
// percent, rounded down to a whole number from 0 to 100. The
// phases are those of the installed client, a shell script:
//
//	starting        nothing is known yet                                0
//	checksums_fetch the meta of the mirror is fetched                   1
//	rdiff_fetch     a delta is fetched                                 75
//	rdiff_checksum  the delta is verified                              80
//	image_patch     the image is made from a base and the delta        90
//	image_download  the full image is fetched                          90
//	image_sync      the full image is fetched, by what differs         90
//	image_checksum  the image is verified                             100
//	finished        a new image was made or put to use; progress is 100
//	uptodate        the mirror has no newer image; progress is 100
//	error           the update failed; progress is 0
//	interrupted     the update was stopped, and will be resumed; progress is 0
//
// The numbers on the right are the percent of the whole update that the applet
// shows at the end of the phase. It shows any other phase as "???". An update takes
// one of the routes to an image, rdiff_fetch to image_patch or image_download or
// image_sync, so not all phases come.
//
// A regular file is written under its name with .tmp added, and renamed, so that no reader
// sees a part of it; a symbolic link is followed. It is not
// flushed to the disk: after a power cut it may be empty, or report an update that has
// ended. It is not written if nothing has changed, and not removed after the update.
// Anything else, such as a pipe, is written to, if it accepts the data at once.
package stats

import (
	"fmt"
	"log/slog"
	"math/bits"
	"path/filepath"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/through"
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

// File is the file. A nil File writes nothing. It is not for concurrent use, and only
// the process that holds the lock of the images directory writes it.
type File struct {
	path    string
	log     *slog.Logger
	written state
	warned  bool
}

// state is what the file says.
type state struct {
	image, phase string
	percent      int
}

// New returns the file of this path, "" for none. It writes nothing yet. log takes the
// warning that the file cannot be written, and must not be nil.
func New(path string, log *slog.Logger) *File {
	if path == "" {
		return nil
	}
	return &File{path: path, log: log}
}

// Phase writes that an update is in this phase, and has done so many of its total
// bytes. image is a file name without white space, "" if it is not known yet. If the
// total is 0, which stands for unknown, the progress is 0.
//
// Phase may be called for every block: it writes a new percent only. The update does
// not depend on the file, so there is no error; the first one is a warning in the log.
func (f *File) Phase(image, phase string, done, total int64) {
	if f == nil {
		return
	}
	now := state{image, phase, percent(phase, done, total)}
	if now == f.written {
		return
	}
	f.written = now
	if err := f.write(now); err != nil && !f.warned {
		f.warned = true
		f.log.Warn("could not write the progress file", "file", f.path, "reason", err)
	}
}

// write writes to the file that the path points to.
func (f *File) write(s state) error {
	text := fmt.Appendf(nil, "image %s\nphase %s\nprogress %d\n", s.image, s.phase, s.percent)
	return through.Write(f.path, text, func(file string) error { return replace(file, text) })
}

// replace replaces a regular file. The directory is opened each time: it may be made
// later.
func replace(file string, text []byte) error {
	dir, err := atomicfile.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	dir.NoSync = true
	name := filepath.Base(file)
	_, err = dir.Replace(name+".tmp", name, text)
	return err
}

// percent returns how much of a phase is done, rounded down.
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
