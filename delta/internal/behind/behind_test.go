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
		want        int // bytes written
		err         error
	}{
		{"nothing", 0, 100, 0, nil},
		{"less than a buffer", 7, 100, 7, nil},
		{"a buffer", 10, 100, 10, nil},
		{"many", 95, 100, 95, nil},
		{"full in the end", 95, 90, 90, errDisk},
		{"full at once", 95, 0, 0, errDisk},
		{"full midway", 95, 42, 40, errDisk},
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
				part[j] = byte(i + j)
			}
			n := (len(part) + 1) / 2 // less than there is room for
			want = append(want, part[:n]...)
			w.Filled(n)
			i += n
		}
		if err := w.Close(); err != c.err || !bytes.Equal(d.Bytes(), want[:c.want]) {
			t.Errorf("%s: %d bytes written, want %d, %v", c.name, d.Len(), c.want, err)
		}
	}
}

// What is to be done after some bytes is done when they are written, in order, but
// for what is overtaken before; an error of it is one of the writer.
func TestAfter(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name  string
		sizes []int // after each of which something is done
		stop  int   // after so many bytes that fails
		want  error
		done  []int // after how many bytes it is done
	}{
		{"nothing", nil, -1, nil, nil},
		{"nothing before it", []int{0}, -1, nil, []int{0}},
		{"some", []int{3, 7, 0, 10, 4, 18}, -1, nil, []int{10, 20, 24, 42}},
		{"overtaken", []int{3, 3, 3, 3, 3}, -1, nil, []int{9, 15}},
		{"it fails", []int{3, 7, 10, 4}, 10, stop, nil},
		{"the disk is full", []int{3, 7, 20, 20}, -1, errDisk, []int{10, 30}},
	} {
		d := &disk{room: 42}
		w := New(d, 10)
		var done []int
		filled, err := 0, error(nil)
		for i := 0; i < len(c.sizes) && err == nil; i++ {
			for left := c.sizes[i]; left > 0 && err == nil; {
				var part []byte
				part, err = w.Next(int64(left))
				w.Filled(len(part))
				left -= len(part)
				filled += len(part)
			}
			after := filled
			w.After(func() error {
				if d.Len() < after || d.Len() > after+10 {
					t.Errorf("%s: %d bytes written, want %d", c.name, d.Len(), after)
				}
				if after == c.stop {
					return stop
				}
				done = append(done, after)
				return nil
			})
		}
		if err := w.Close(); err != c.want || !slices.Equal(done, c.done) {
			t.Errorf("%s: done %d, %v; want %d, %v", c.name, done, err, c.done, c.want)
		}
	}
}
