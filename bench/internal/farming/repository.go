package farming

// Repository is what a farm builds: series of images, of which each has deltas to its newest
// images from all its others, as the builder makes them when it builds all at once.
type Repository struct {
	Series, Images int      // how many series, and images of each
	Size           float64  // of each image, in bytes
	Compact        bool     // compact deltas instead of rdiff ones
	Changes        []Change // what deltas take: of a release and back, and of two releases or more
}

// targets is how many images of a series have deltas to them.
const targets = 3

// change returns what is between two images of a series: a release more, one less, or a large
// change.
func (r Repository) change(base, target int) Change {
	switch target - base {
	case 1:
		return r.Changes[2]
	case -1:
		return r.Changes[1]
	}
	return r.Changes[0]
}

// Jobs returns the sizes of the images, and the jobs, by their bases.
func (r Repository) Jobs() (images []float64, jobs []Job) {
	for s := range r.Series {
		for base := range r.Images {
			images = append(images, r.Size)
			for target := max(0, r.Images-targets); target < r.Images; target++ {
				if target != base {
					jobs = append(jobs, r.job(s*r.Images, base, target))
				}
			}
		}
	}
	return images, jobs
}

func (r Repository) job(first, base, target int) Job {
	c := r.change(base, target)
	of := c.RDiff
	if r.Compact {
		of = c.Compact
	}
	scale := r.Size / c.Target
	return Job{
		Compact: r.Compact, Base: first + base, Target: first + target,
		Index: of.Index * scale, Make: of.Make * scale, Check: of.Check * scale, Bytes: of.Bytes * scale,
	}
}
