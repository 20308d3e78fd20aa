package atomicfile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Kind is what a change does.
type Kind string

// The kinds of changes.
const (
	Create   Kind = "create"    // an empty file
	Write    Kind = "write"     // something to a file, at whatever place
	Flush    Kind = "flush"     // a file's content to the disk
	FlushDir Kind = "flush dir" // a directory's names to the disk
	Rename   Kind = "rename"    // Name to To
	Link     Kind = "link"      // Name as To too
	LinkFrom Kind = "link from" // the path Name, outside of Dir, as To
	Remove   Kind = "remove"    // a file, or a directory with all that is in it
	Mkdir    Kind = "mkdir"
)

// Change is one step of what a Dir does to the file system.
type Change struct {
	Kind     Kind
	Dir      string // the path of the Dir
	Name, To string // in Dir
}

func (c Change) String() string {
	if c.To != "" {
		return fmt.Sprintf("%s %s to %s", c.Kind, c.Name, c.To)
	}
	return fmt.Sprintf("%s %s", c.Kind, c.Name)
}

// observers are those who asked to see the changes below a directory.
var observers struct {
	sync.Mutex
	all []*observing
}

type observing struct {
	dir string // an absolute path
	see func(Change) error
}

// Observe calls see before each change that is made through a Dir, opened after
// this call, that is path or lies in it, until stop is called. It is for tests: see
// can take notes, and where it returns an error, the change is not made and fails
// with this error. It is called concurrently where the changes are made so.
func Observe(path string, see func(Change) error) (stop func()) {
	o := &observing{absolute(path), see}
	observers.Lock()
	defer observers.Unlock()
	observers.all = append(observers.all, o)
	return func() {
		observers.Lock()
		defer observers.Unlock()
		observers.all = slices.DeleteFunc(observers.all, func(other *observing) bool { return other == o })
	}
}

// observer returns who observes a directory, nil if nobody does.
func observer(dir string) func(Change) error {
	observers.Lock()
	defer observers.Unlock()
	for _, o := range observers.all {
		if inside := absolute(dir); inside == o.dir || strings.HasPrefix(inside, o.dir+"/") {
			return o.see
		}
	}
	return nil
}

// absolute returns a path that can be compared with others.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}

// change makes a change, after showing it to whoever observes.
func (d Dir) change(c Change, do func() error) error {
	if d.observe != nil {
		c.Dir = d.path
		if err := d.observe(c); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	return do()
}
