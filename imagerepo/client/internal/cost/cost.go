// Package cost estimates how long it takes to make an image by a delta, and remembers the
// two speeds that this depends on: how fast files come, and how fast this machine applies
// compact deltas.
//
// # The estimate
//
// A step fetches bytes, at the rate of the last downloads, and does some work meanwhile.
// The longer of the two counts whole. Of the other counts what cannot be done concurrently:
// a compact delta is fetched and applied in sections, so the first section is fetched
// before there is any work, and the last one is worked on when nothing is left to fetch.
//
//	seconds = longer + shorter * min(1, section / fetch)
//
// The work of each step is to write its image. That of a compact delta is much more: blocks
// of the target are packed, blocks of the base are unpacked, and the delta is decompressed,
// which one core does alone. All of that is counted in bytes of packed content, and done at
// the speed of a core, by as many as the process may use.
//
// To compare ways, an image that is written counts as a share of its bytes to fetch,
// however fast the disk is: so among rdiff deltas and full images it is always the bytes
// that decide, whatever the rate. Whether a step that was begun is left for another way is
// decided by seconds. Where all that counts is traffic, the cost is the bytes to fetch
// alone.
//
// # The file
//
// The speeds are the file .image_updates_speed in the images directory, a JSON object:
//
//	rate   bytes a second of the last downloads; left out if it is not known
//	speed  bytes of work a second and core, of the last compact delta that was applied;
//	       left out if it is not known
//
// It is not in the file of the digests: that one is flushed, and whoever loses it reads all
// images again; and earlier versions write it without what they do not know. A file that is
// damaged counts as empty. It is replaced without being flushed, since what a power cut
// takes is soon measured again.
package cost

import (
	"encoding/json"
	"math"
	"runtime"

	"puavo-image-repository/imagerepo/atomicfile"
)

const (
	fileName = ".image_updates_speed"
	// TmpName is the temporary name of the file, which a dead process may leave.
	TmpName = fileName + ".tmp"
	// maxFile bounds the file, in bytes.
	maxFile = 4 << 10
)

const (
	// UsualRate is the rate in bytes a second that counts as long as none is known: that of
	// a line on which rdiff deltas are faster than compact ones.
	UsualRate = 12.5e6
	// usualSpeed is the speed that counts likewise, in bytes a second and core: three quarters
	// of that of a server.
	usualSpeed = 15e6
	// diskRate is how many bytes of an image are written and verified in a second.
	diskRate = 200e6
	// diskShare is how many bytes of an image that is written cost as much as one that is
	// fetched.
	diskShare = 64
	// section is about how many bytes of a compact delta are fetched before any are used.
	section = 4 << 20
	// slowest and fastest bound what is believed of a file.
	slowest, fastest = 64, 1e12
)

// Known are the speeds that were measured, in bytes a second; 0 for one that is not known.
type Known struct {
	Rate  float64 `json:"rate,omitempty"`  // of downloads
	Speed float64 `json:"speed,omitempty"` // of work, for each core
}

// Read returns what the file in an images directory says.
func Read(dir atomicfile.Dir) Known {
	data, _ := dir.ReadFile(fileName, maxFile) // without the file, nothing is known
	return parse(data)
}

func parse(data []byte) (k Known) {
	if json.Unmarshal(data, &k) != nil {
		return Known{}
	}
	for _, n := range []*float64{&k.Rate, &k.Speed} {
		if *n < slowest || *n > fastest {
			*n = 0
		}
	}
	return k
}

// Write writes the file in an images directory, whose lock is held, if anything is known.
func (k Known) Write(dir atomicfile.Dir) error {
	if k == (Known{}) {
		return nil
	}
	data, err := json.Marshal(Known{math.Round(k.Rate), math.Round(k.Speed)})
	if err != nil {
		return err
	}
	dir.NoSync = true
	_, err = dir.Replace(TmpName, fileName, append(data, '\n'))
	return err
}

// Step is what a step takes, in bytes.
type Step struct {
	Fetch int64 // that are still to fetch
	Size  int64 // of the file that they are of
	Makes int64 // of the image
	// Of a compact delta: content of the target's blocks that are packed, and of the base's
	// that are unpacked.
	Compact         bool
	Coded, Unpacked int64
}

// How many bytes of content that are unpacked, or of a compact delta that are decompressed,
// are as much work as one byte of content that is packed.
const (
	unpackedWork   = 1. / 20
	compressedWork = 1.
)

// work returns the work of the rest of a compact delta, in bytes, and what of it one core
// does alone.
func (s Step) work() (all, alone float64) {
	if !s.Compact || s.Size <= 0 {
		return 0, 0
	}
	rest := min(1, float64(s.Fetch)/float64(s.Size))
	alone = compressedWork * float64(s.Size) * rest
	return alone + rest*(float64(s.Coded)+unpackedWork*float64(s.Unpacked)), alone
}

// Model is how steps are compared.
type Model struct {
	Known
	Limit   int64 // bytes a second that are fetched at most; 0 is no limit
	Cores   int   // that work on a compact delta; 0 is all that the process may use
	Traffic bool  // only the bytes to fetch count
}

// Bandwidth returns the rate that counts, in bytes a second.
func (m Model) Bandwidth() float64 {
	rate := m.Rate
	if rate <= 0 {
		rate = UsualRate
	}
	if m.Limit > 0 {
		rate = min(rate, float64(m.Limit))
	}
	return rate
}

// Seconds returns how long a step takes.
func (m Model) Seconds(s Step) float64 {
	return overlapped(s, m.fetch(s), m.work(s)+float64(s.Makes)/diskRate)
}

// Time returns how long steps that follow each other take, in seconds.
func (m Model) Time(steps []Step) (sum float64) {
	for _, s := range steps {
		sum += m.Seconds(s)
	}
	return sum
}

// fetch returns how long the download of a step takes, in seconds.
func (m Model) fetch(s Step) float64 { return float64(s.Fetch) / m.Bandwidth() }

// work returns how long the work of a compact delta takes, in seconds.
func (m Model) work(s Step) float64 {
	speed := m.Speed
	if speed <= 0 {
		speed = usualSpeed
	}
	all, alone := s.work()
	return max(all/float64(m.cores()), alone) / speed
}

// overlapped returns how long a step takes of which two parts are done concurrently.
func overlapped(s Step, fetch, work float64) float64 {
	return max(fetch, work) + min(fetch, work)*min(1, section/max(1, float64(s.Fetch)))
}

func (m Model) cores() int {
	if m.Cores > 0 {
		return m.Cores
	}
	return runtime.GOMAXPROCS(0)
}

// Of returns the cost of a step, to compare it with others of the same model: seconds, or
// bytes.
func (m Model) Of(s Step) float64 {
	if m.Traffic {
		return float64(s.Fetch)
	}
	return overlapped(s, m.fetch(s), m.work(s)) + float64(s.Makes)/diskShare/m.Bandwidth()
}
