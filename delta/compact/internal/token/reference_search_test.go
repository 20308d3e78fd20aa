package token

// This is the search of the reference decoder.

func (r *reference) walk(t []int, candidates, x, o, d, need, most int) (m match, gaveUp bool) {
	work := 0
	for n := 0; d <= min(x, 49151); n++ {
		if n == candidates {
			gaveUp = true
			break
		}
		work++
		k := r.alike(x, d, most)
		if k >= min(need, 8) {
			work += k / 64
		}
		if k >= need {
			if r.rankOf(x, d) <= 2048 {
				m = match{k, d}
			}
			break
		}
		if k >= 8 {
			for _, other := range []int{0, k - 8} {
				now, then := t[x-d+o], t[x-d+other]
				if now != 0 && (then == 0 || then > now) {
					o = other
				}
			}
		}
		step := t[x-d+o]
		if step == 0 {
			break
		}
		d += step
	}
	r.work += work
	if r.work > r.limit {
		r.spent, r.depth = true, 1
	}
	return m, gaveUp
}

func (r *reference) next(x, need, d0, most int) (m match, gaveUp bool) {
	if need > most {
		return none, false
	}
	t, w, candidates := r.tableFor(need)
	o := need - w
	d := t[x+o]
	if d == 0 {
		return none, false
	}
	s := max(1, o/4)
	for k := o - 1; k >= 0; k -= s {
		last := k < s
		if last {
			k = 0
		}
		then := t[x-d0+k]
		if then == 0 {
			return none, false
		}
		if then+d0 > d {
			o, d = k, then+d0
		}
		if last {
			break
		}
	}
	return r.walk(t, candidates, x, o, d, need, most)
}

func (r *reference) longest(x, need int) (list []match, unsure bool) {
	most := min(len(r.content)-x, 2048)
	if r.spent {
		most = min(len(r.content)-x, 64)
	}
	var m match
	gaveUp := false
	for _, w := range []int{8, 5} {
		if m != none || need > w || most < w {
			continue
		}
		t, _, candidates := r.tableFor(w)
		gaveUp = false
		if t[x] != 0 {
			m, gaveUp = r.walk(t, candidates, x, 0, t[x], w, most)
		}
		if m == none && !gaveUp {
			most = w - 1
		}
	}
	if m == none {
		m, gaveUp = r.next(x, max(need, 3), 0, most)
	}
	for m != none {
		list = append(list, m)
		m, gaveUp = r.next(x, m.length+1, m.distance, most)
	}
	switch {
	case len(list) == 1:
		if c := r.closer(x, list[0]); c != none {
			list = []match{c, list[0]}
		}
	case len(list) == 0 && need == 2 && r.p2[x] != 0:
		list = []match{{2, r.p2[x]}}
	}
	return list, gaveUp
}

func (r *reference) closer(x int, m match) match {
	l, d := m.length, m.distance
	if 4 <= l && l <= 9 && d > 2048 || 10 <= l && l <= 34 && d > 16384 {
		c, _ := r.next(x, l-1, 0, l-1)
		return c
	}
	return none
}

func refCheaper(o, m match) bool {
	if o == none {
		return false
	}
	l, d, k, e := m.length, m.distance, o.length, o.distance
	return l == 10 && d > 16384 && k == 8 && e <= 2048 ||
		k == l-1 && 4 <= l && l <= 9 && d > 2048 && e <= 2048 ||
		k == l-1 && 10 <= l && l <= 34 && d > 16384 && e <= 16384
}

func (r *reference) best(x, need int) match {
	if h := r.held[x]; h != nil {
		if h.found.length >= need {
			return h.found
		}
		if h.found != none || need >= h.need {
			return none
		}
	}
	h := &refHeld{need: need}
	r.held[x] = h
	if x+need > len(r.content) {
		return none
	}
	if need == 2 {
		if r.p3[x] == 0 && r.p2[x] == 0 {
			return none
		}
	} else if t, w, _ := r.tableFor(need); t[x] == 0 || t[x+need-w] == 0 {
		return none
	}
	list, unsure := r.longest(x, need)
	h.unsure = unsure
	if len(list) == 0 {
		return none
	}
	m := list[len(list)-1]
	h.found = m
	for k := 2; k <= 3 && k <= len(list); k++ {
		if o := list[len(list)-k]; refCheaper(o, m) {
			h.found = o
			break
		}
	}
	if h.found.length < need {
		return none
	}
	return h.found
}

func (r *reference) refined(x int, m match) match {
	if c := r.closer(x, m); refCheaper(c, m) {
		return c
	}
	return m
}

func (r *reference) extends(x, d int) bool {
	return x > d && r.content[x-1] == r.content[x-1-d] && r.rankOf(x-1, d) <= 2048
}

// refLater is a later match and its gain.
type refLater struct {
	match
	gain int
}

func (r *reference) later(x int, m match, literals int) (match, refLater, refLater) {
	if m.length >= 128 {
		return m, refLater{}, refLater{}
	}
	longer := func(o match, k int) match { return match{min(o.length+k, 2048), o.distance} }
	a := r.best(x+1, m.length)
	if a.length >= 3 && r.extends(x+1, a.distance) && !refCheaper(m, longer(a, 1)) {
		m, a = r.refined(x, longer(a, 1)), none
	}
	need := m.length + 1
	if m.length <= 8 && m.distance > 2048 {
		need--
	}
	b := r.best(x+2, need)
	if b.length > m.length && r.extends(x+2, b.distance) {
		if !r.extends(x+1, b.distance) {
			a, b = r.refined(x+1, longer(b, 1)), none
			r.held[x+1].found = a
		} else if !refCheaper(m, longer(b, 2)) {
			m, a, b = r.refined(x, longer(b, 2)), none, none
		}
	}
	if m.length >= 128 || a.length < m.length || !refWritable(a, literals+1) ||
		m.length >= 32 && r.rankOf(x+1, a.distance) > 512 {
		a = none
	}
	if m.length >= 128 || b.length < m.length || m.length >= 32 && r.rankOf(x+2, b.distance) > 512 {
		b = none
	}
	gain := func(o match) refLater {
		if o == none {
			return refLater{}
		}
		return refLater{o, min(o.length-m.length+1, 4)}
	}
	return m, gain(a), gain(b)
}

func refWritable(m match, literals int) bool {
	return m.length >= 3 || m.length == 2 && m.distance <= 1024 && 1 <= literals && literals <= 3
}

func refClass(d int) int {
	for i, most := range []int{1024, 2048, 3072, 16384} {
		if d <= most {
			return i
		}
	}
	return 4
}

func refK(m match) int { return (min(m.length, 9)-2)*5 + refClass(m.distance) }

func refLazy(m match, a, b refLater) int {
	l := func(o refLater) int {
		if o.gain == 0 {
			return 0
		}
		return 1 + (o.gain-1)*5 + refClass(o.distance)
	}
	return (refK(m)*21+l(a))*21 + l(b)
}

func refS(l int) int {
	switch {
	case l < 4:
		return 0
	case l <= 11:
		return l - 4
	case l <= 33:
		return 8 + (l-10)/8
	case l <= 127:
		return 11
	case l <= 263:
		return 12 + (l-128)/68
	}
	return 14
}

func (r *reference) unsure(x int) int {
	if h := r.held[x]; h != nil && h.unsure {
		return 1
	}
	return 0
}
