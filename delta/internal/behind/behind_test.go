package behind

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

var errDisk = errors.New("no space left")

// disk has room for so many bytes.
type disk struct {
	bytes.Buffer
	room int
}

func (d *disk) Write(p []byte) (int, error) {
	if d.Len()+len(p) > d.room {
		return 0, errDisk
	}
	return d.Buffer.Write(p)
}

// All that was filled is written in order, or the writer's error comes back.
func TestWriter(t *testing.T) {
	for _, c := range []struct {
		name        string
		total, room int
		all         bool
		want        int // bytes written
		err         error
	}{
		{"nothing", 0, 100, true, 0, nil},
		{"less than a buffer", 7, 100, true, 7, nil},
		{"a buffer", 10, 100, true, 10, nil},
		{"many", 95, 100, true, 95, nil},
		{"abandoned", 95, 100, false, 90, nil},
		{"full in the end", 95, 90, true, 90, errDisk},
		{"full at once", 95, 0, true, 0, errDisk},
		{"full midway", 95, 42, true, 40, errDisk},
		{"full and abandoned", 95, 42, false, 40, errDisk},
	} {
		d := &disk{room: c.room}
		w := New(d, 10)
		var want []byte
		for i := 0; i < c.total; {
			part, err := w.Next(int64(min(3, c.total-i)))
			if err != nil {
				if err != c.err {
					t.Errorf("%s: %v", c.name, err)
				}
				break
			}
			for j := range part {
				part[j] = byte(i)
				want = append(want, byte(i))
				i++
			}
		}
		if err := w.Close(c.all); err != c.err || !bytes.Equal(d.Bytes(), want[:c.want]) {
			t.Errorf("%s: %d bytes written, want %d, %v", c.name, d.Len(), c.want, err)
		}
	}
}

// What is to be done after some bytes is done when they are written and no others
// are, in order; an error of it is one of the writer.
func TestAfter(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name  string
		sizes []int // after each of which something is done
		stop  int   // after so many bytes that fails
		want  error
		done  []int // when how many bytes were written
	}{
		{"nothing", nil, -1, nil, nil},
		{"nothing before it", []int{0}, -1, nil, []int{0}},
		{"some", []int{3, 7, 0, 10, 4, 18}, -1, nil, []int{3, 10, 10, 20, 24, 42}},
		{"it fails", []int{3, 7, 10, 4}, 10, stop, []int{3, 10}},
		{"the disk is full", []int{3, 7, 20, 20}, -1, errDisk, []int{3, 10, 30}},
	} {
		d := &disk{room: 42}
		w := New(d, 10)
		var done []int
		filled, err := 0, error(nil)
		for i := 0; i < len(c.sizes) && err == nil; i++ {
			for left := c.sizes[i]; left > 0 && err == nil; {
				var part []byte
				part, err = w.Next(int64(left))
				left -= len(part)
				filled += len(part)
			}
			if want := filled; err == nil {
				err = w.After(func() error {
					if done = append(done, d.Len()); d.Len() != want {
						t.Errorf("%s: %d bytes written, want %d", c.name, d.Len(), want)
					}
					if want == c.stop {
						return stop
					}
					return nil
				})
			}
		}
		if err := w.Close(true); err != c.want || !slices.Equal(done, c.done) {
			t.Errorf("%s: done %d, %v; want %d, %v", c.name, done, err, c.done, c.want)
		}
	}
}
