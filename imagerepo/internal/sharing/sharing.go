// Package sharing brings a file into a directory without a second copy of its bytes: by
// a hard link, or as another file with the same blocks, a reflink. It also guesses
// whether that is possible.
//
// The kernel decides by rules that no program can check in advance: a link must stay within
// one mount, so not go from one bind mount of a disk to another; within one subvolume of
// btrfs; below the most that a file can have; and with fs.protected_hardlinks the file
// must be the caller's own, or one that he may write. A reflink must stay on one file
// system that can make it. So Share tries, and Likely only guesses.
package sharing

import (
	"errors"
	"io/fs"
	"path/filepath"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Way is how a file comes into a directory.
type Way int

// The ways.
const (
	Copy    Way = iota // its bytes are written once more
	Link               // it gets another name
	Reflink            // another file has its blocks
)

func (w Way) String() string { return [...]string{"copy", "link", "reflink"}[w] }

// Shared is what Share did.
type Shared struct {
	Way    Way
	NoLink error // why it is no link, nil if it is one
}

// Share gives a file the name tmp in dir, where it can share its bytes: if Way is Copy,
// nothing has that name. It replaces what a dead run has left there. A link changes the
// change time of the file. A symbolic link is followed.
func Share(dir atomicfile.Dir, file, tmp string) (Shared, error) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return Shared{}, err
	}
	if _, err := dir.Lstat(tmp); !errors.Is(err, fs.ErrNotExist) {
		if err := dir.Remove(tmp); err != nil {
			return Shared{}, err
		}
	}
	noLink := dir.LinkFrom(real, tmp)
	if noLink == nil {
		return Shared{Way: Link}, nil
	}
	s := Shared{Way: Copy, NoLink: noLink}
	cloned, err := reflink(dir, file, tmp)
	if cloned {
		s.Way = Reflink
	}
	return s, err
}

// reflink reports whether it could make a reflink of a file. An error is of what a copy
// would need too.
func reflink(dir atomicfile.Dir, file, tmp string) (bool, error) {
	from, err := atomicfile.OpenRegular(file)
	if err != nil {
		return false, err
	}
	defer from.Close()
	to, err := dir.Begin(tmp, tmp)
	if err != nil {
		return false, err
	}
	defer to.Discard()
	if to.Clone(from) != nil {
		return false, nil
	}
	return true, to.Keep()
}
