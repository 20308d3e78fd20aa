package budget

import (
	"cmp"
	"runtime"
	"slices"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Schedule is how a plan is carried out within a budget. It does not change what
// comes of the plan, and never changes itself: any goroutine may use it.
type Schedule struct {
	Jobs    int   // how many bases are worked on at a time
	Readers int   // how many images are read at a time
	Memory  int64 // bytes that all sweeps at a time may take together
	Scarce  bool  // memory does not hold the images that are worked on

	budget Budget
	groups [][]plan.Delta // those with work, as Groups sorts them
	held   map[meta.Name]bool
	most   int // deltas that are made side by side
	cores  int
}

// Sweep is how the deltas from one base are made.
type Sweep struct {
	Index int64 // bytes
	Width int   // how many are made side by side
	Cores int   // of each diff
}

// What of the base and of each target the lanes of a sweep look at again, in bytes: the
// window of their pace, what is searched ahead, and what is verified behind.
const (
	basePages   = 100 << 20
	targetPages = 60 << 20
)

// Groups returns the deltas of a plan by their bases: those with the most work first,
// so that none of them is left to one core at the end, and in each group those with
// work first.
func Groups(p plan.Plan) [][]plan.Delta {
	groups := p.Bases()
	work := make(map[meta.Name]int64)
	for _, g := range groups {
		for _, d := range g {
			if d.Open() {
				work[d.Base] += d.Work()
			}
		}
		slices.SortStableFunc(g, func(a, b plan.Delta) int { return rank(a) - rank(b) })
	}
	slices.SortStableFunc(groups, func(a, b []plan.Delta) int { return cmp.Compare(work[b[0].Base], work[a[0].Base]) })
	return groups
}

func rank(d plan.Delta) int {
	if d.Open() {
		return 0
	}
	return 1
}

// Schedule returns the schedule of a plan, where free bytes of memory can be had for
// the process and for the pages of the images. If these do not hold the images that
// are worked on, the bases are worked on one at a time.
func (b Budget) Schedule(p plan.Plan, free int64) Schedule {
	s := Schedule{Jobs: b.Jobs, budget: b, held: make(map[meta.Name]bool), cores: runtime.GOMAXPROCS(0)}
	for _, g := range Groups(p) {
		if g[0].Open() {
			s.groups = append(s.groups, g)
			s.most = max(s.most, open(g))
		}
	}
	if !b.given {
		for _, g := range s.groups {
			s.budget.Memory = max(s.budget.Memory, runMemory+b.need(g, 1, 1))
		}
	}
	if s.worked() > max(free-s.wanted(), 0) {
		s.Jobs, s.Scarce = 1, true
		s.most = min(s.most, max(1, int((free-s.wanted()-basePages)/targetPages)))
	}
	s.Memory = s.budget.Memory - runMemory
	if s.Scarce { // else the base is in memory when its index is needed
		s.hold(p)
	}
	s.Readers = min(max(int(s.Memory/jobMemory), 1), max(b.Jobs, 4))
	return s
}

// open returns how many deltas of a group have work, as Groups sorts it.
func open(group []plan.Delta) (n int) {
	for n < len(group) && group[n].Open() {
		n++
	}
	return n
}

// wanted returns what the run takes if it may, in bytes.
func (s *Schedule) wanted() int64 {
	sum := int64(runMemory)
	for i, g := range s.groups {
		sum += s.budget.index(g)
		if i < s.Jobs {
			sum += s.budget.sweep(g, open(g), s.cores)
		}
	}
	return min(sum, s.budget.Memory)
}

// worked returns the bytes of all images that are worked on at a time.
func (s *Schedule) worked() (sum int64) {
	images := make(map[meta.Name]int64)
	for _, g := range s.groups[:min(s.Jobs, len(s.groups))] {
		for _, d := range g[:open(g)] {
			images[d.Target] = d.TargetSize
			if !d.Retired {
				images[d.Base] = d.BaseSize
			}
		}
	}
	for _, size := range images {
		sum += size
	}
	return sum
}

// hold chooses the bases that are indexed while they are read for their digests, where
// memory is scarce: those that are read, as many as leave the memory that the sweeps need.
func (s *Schedule) hold(p plan.Plan) {
	read := make(map[meta.Name]bool)
	for _, im := range p.Images {
		read[im.Name] = im.Read
	}
	for _, g := range s.groups {
		if !read[g[0].Base] || g[0].Retired || !slices.ContainsFunc(g, made) {
			continue
		}
		s.held[g[0].Base] = true
		if left := s.Memory - s.budget.index(g); left >= s.needed() {
			s.Memory = left
		} else {
			delete(s.held, g[0].Base)
		}
	}
}

// made reports whether a delta is most likely made, and not only checked.
func made(d plan.Delta) bool { return d.Open() && d.Action != plan.Check }

// needed returns the least that the sweeps must have at a time besides the indexes that
// are held: each with all its deltas side by side, on a core each if bases are worked
// on one at a time, so that an index that is held saves reading the base.
func (s *Schedule) needed() (most int64) {
	cores := s.cores
	if s.Jobs == 1 {
		cores = 1
	}
	for _, g := range s.groups {
		need := s.budget.sweep(g, min(open(g), s.most), cores) * int64(min(s.Jobs, len(s.groups)))
		if !s.held[g[0].Base] {
			need += s.budget.index(g)
		}
		most = max(most, need)
	}
	return most
}

// Held reports whether the index of a base is made while the base is read.
func (s Schedule) Held(base meta.Name) bool { return s.held[base] }

// Sweep returns how the deltas of a group are made.
func (s Schedule) Sweep(group []plan.Delta) Sweep {
	w := Sweep{Index: s.budget.Index(group[0].BaseSize), Width: max(1, min(open(group), s.most))}
	w.Cores = min(s.cores, (2*s.cores+w.Width-1)/w.Width) // more would only wait for each other
	for w.Cores > 1 && s.take(group, w) > s.Memory {
		w.Cores--
	}
	for w.Width > 1 && s.take(group, w) > s.Memory {
		w.Width--
	}
	return w
}

// Short returns how much memory a run must be given for an index that the memory that
// was asked for makes smaller, and so deltas larger, or 0.
func (s Schedule) Short() (enough int64) {
	for _, g := range s.groups {
		usual := (Budget{}).Index(g[0].BaseSize)
		if !g[0].Retired && s.budget.Index(g[0].BaseSize) < usual {
			enough = max(enough, runMemory+jobMemory+coreMemory+usual)
		}
	}
	return enough
}

// Need returns how many bytes of Memory the deltas of a group take.
func (s Schedule) Need(group []plan.Delta) int64 { return s.take(group, s.Sweep(group)) }

func (s Schedule) take(group []plan.Delta, w Sweep) int64 {
	if s.held[group[0].Base] {
		return s.budget.sweep(group, w.Width, w.Cores)
	}
	return s.budget.need(group, w.Width, w.Cores)
}

// Peak returns how many bytes the run takes at most.
func (s Schedule) Peak() int64 {
	var needs []int64
	for _, g := range s.groups {
		needs = append(needs, s.Need(g))
	}
	slices.Sort(needs)
	var sum int64
	for _, n := range needs[max(0, len(needs)-s.Jobs):] {
		sum += n
	}
	return s.budget.Memory - s.Memory + min(sum, s.Memory)
}

// Reads returns how many bytes of the images are read for the deltas of a group: of the
// base once for its index, unless it is held, and once a sweep, and of each target
// once. By a signature, each target is read once more for its verification.
func (s Schedule) Reads(group []plan.Delta) (n int64) {
	deltas := group[:open(group)]
	for _, d := range deltas {
		n += d.TargetSize
		if d.Retired {
			n += d.TargetSize
		}
	}
	if len(deltas) == 0 || group[0].Retired {
		return n
	}
	width := s.Sweep(group).Width
	sweeps := (len(deltas) + width - 1) / width
	if slices.ContainsFunc(deltas, made) && !s.held[group[0].Base] {
		sweeps++
	}
	return n + int64(sweeps)*group[0].BaseSize
}
