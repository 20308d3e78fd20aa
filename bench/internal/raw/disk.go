package main

import (
	"io"
	"math/rand/v2"
	"os"
)

// diskSize is the size of the first state of the disk image; what it holds is about
// diskExtents times a MB.
const (
	diskSize    = 4812 << 20
	diskExtents = 24
)

// extent is a stretch of content in a disk image, zeros around it.
type extent struct {
	at, size int64
	seed     uint64
}

// disks returns the extents of the two states, and their sizes. In the second each
// hole before an extent is some pages longer or shorter, one extent is gone, one is
// other content, and one more follows.
func disks(percent int64) (a, b []extent, sizes [2]int64) {
	const page = 4096
	r := rand.New(seeded("disk", 0))
	size := diskSize * percent / 100 / page * page
	step := size / diskExtents / page * page
	shift := int64(0)
	for i := range int64(diskExtents) {
		e := extent{at: i * step, size: step/400 + r.Int64N(step/200), seed: uint64(i)}
		if i > 0 {
			e.at += r.Int64N(step/4/page) * page
		}
		a = append(a, e)
		if i == 7 {
			continue
		}
		if i > 0 {
			shift += r.Int64N(step/16/page)*page - step/64/page*page
		}
		e.at += shift
		if i == 12 {
			e.seed += 1000
		}
		b = append(b, e)
	}
	last := b[len(b)-1]
	b = append(b, extent{at: last.at + step, size: step / 300, seed: 2000})
	return a, b, [2]int64{size, last.at + 2*step}
}

// writeDisks writes both states of the disk image.
func writeDisks(dir string, percent int64) error {
	a, b, sizes := disks(percent)
	for state, extents := range [2][]extent{a, b} {
		if err := writeDisk(image(dir, "disk", state), extents, sizes[state]); err != nil {
			return err
		}
	}
	return nil
}

// writeDisk writes a file that is a hole but for some extents.
func writeDisk(path string, extents []extent, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	for _, e := range extents {
		source := seeded("disk", e.seed+1)
		if e.seed%2 == 0 {
			_, err = io.CopyN(io.NewOffsetWriter(f, e.at), source, e.size)
		} else {
			err = writeText(io.NewOffsetWriter(f, e.at), rand.New(source), e.size)
		}
		if err != nil {
			return err
		}
	}
	return f.Close()
}
