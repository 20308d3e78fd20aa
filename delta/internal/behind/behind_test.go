package behind

import (
	"bytes"
	"errors"
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

// After Sync all is written that was filled before.
func TestSync(t *testing.T) {
	d := &disk{room: 42}
	w := New(d, 10)
	for i, size := range []int{0, 3, 7, 10, 4, 10, 0, 20} {
		for left := size; left > 0; {
			part, err := w.Next(int64(left))
			if err != nil {
				t.Fatal(err)
			}
			left -= len(part)
		}
		before := d.Len() // of what was synced before, no race
		err := w.Sync()
		if want := before + size; err == nil && d.Len() != want || (err != nil) != (want > d.room) {
			t.Errorf("%d: %d bytes written, want %d, %v", i, d.Len(), want, err)
		}
	}
	if err := w.Close(true); err != errDisk {
		t.Errorf("closed: %v", err)
	}
}
