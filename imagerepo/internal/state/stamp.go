package state

import (
	"io/fs"
	"syscall"
)

// Stamp shows, without reading it, whether a file is still what it was. Setting the
// modification time back changes the change time.
type Stamp struct {
	Size  int64  `json:"size"`            // bytes
	MTime int64  `json:"mtime"`           // nanoseconds since 1970
	CTime int64  `json:"ctime,omitempty"` // likewise; 0 in records of versions that did not keep it
	Inode uint64 `json:"inode"`
}

// StampOf returns the stamp of a file.
func StampOf(info fs.FileInfo) Stamp {
	s := Stamp{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.CTime, s.Inode = sys.Ctim.Nano(), sys.Ino
	}
	return s
}

// Matches reports whether two stamps are of one file in one state, as far as both
// tell: a change time that was not kept is not compared.
func (s Stamp) Matches(other Stamp) bool {
	if s.CTime == 0 || other.CTime == 0 {
		s.CTime, other.CTime = 0, 0
	}
	return s == other
}

// Renamed returns the stamp of a file that only got or lost a name since s was
// taken, of which other is the stamp now, and whether that can be.
func (s Stamp) Renamed(other Stamp) (Stamp, bool) {
	s.CTime = other.CTime
	return s, s == other
}
