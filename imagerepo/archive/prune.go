package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/retention"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

// Policy says which versions of each group Prune keeps.
type Policy = retention.Policy

// ErrPolicy is wrapped by the error for a policy that keeps nothing.
var ErrPolicy = retention.ErrNone

// Choice is what a policy decides about a version.
type Choice struct {
	retention.Choice
	Stored int64 `json:"stored"` // bytes of its file
}

// GroupPrune is what becomes of a group.
type GroupPrune struct {
	Group    string   `json:"group"`
	Versions []Choice `json:"versions"` // oldest first
	Rebase   []string `json:"rebase"`   // versions that get a delta from another
	Whole    []string `json:"whole"`    // versions that are stored whole from then on
}

// PrunePlan is what Prune does.
type PrunePlan struct {
	Policy Policy       `json:"policy"`
	Groups []GroupPrune `json:"groups"`
	Remove int          `json:"remove"` // versions
	Bytes  int64        `json:"bytes"`  // of the files of these versions
	Due    time.Time    `json:"due"`    // when GC removes them
	Space  int64        `json:"space"`  // bytes of the disk that are needed at most at a time
	Free   int64        `json:"free"`   // bytes
}

// PlanPrune returns what Prune would do. It changes nothing.
func (s *Store) PlanPrune(ctx context.Context, policy Policy, groups plan.Globs, grace time.Duration) (p PrunePlan, err error) {
	if err := policy.Check(); err != nil {
		return p, err
	}
	p = PrunePlan{Policy: policy, Groups: []GroupPrune{}, Due: s.o.Now().UTC().Add(grace).Truncate(time.Second)}
	names, err := s.chosen(groups)
	if err != nil {
		return p, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		g, err := s.open(name)
		if err != nil {
			return p, err
		}
		err = s.planGroup(&p, g)
		g.Close()
		if err != nil {
			return p, err
		}
	}
	p.Free, err = freeAt(s.path)
	return p, err
}

// planGroup adds a group to the plan.
func (s *Store) planGroup(p *PrunePlan, g *group.Group) error {
	next, choices, err := pruned(g.C, p.Policy)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	to := GroupPrune{Group: g.Name, Rebase: []string{}, Whole: []string{}}
	for i, c := range choices {
		stored := g.C.Versions[i].Stored.Size
		to.Versions = append(to.Versions, Choice{c, stored})
		if !c.Kept() {
			p.Remove++
			p.Bytes += stored
		}
	}
	changes := arrangement(g.C, next, -1, s.o.MaxChain)
	for _, c := range changes {
		if version := next[c.at].Version; c.whole {
			to.Whole = append(to.Whole, version)
		} else {
			to.Rebase = append(to.Rebase, version)
		}
	}
	files, temporary := s.room(g, next, changes)
	p.Space = max(p.Space, files+temporary)
	p.Groups = append(p.Groups, to)
	return nil
}

// pruned returns the versions of a group that a policy keeps, and what it decides about each.
func pruned(c *catalog.Catalog, policy Policy) (kept []catalog.Version, choices []retention.Choice, err error) {
	var items []retention.Item
	for _, v := range c.Versions {
		items = append(items, retention.Item{Version: v.Version, Protected: v.Protected})
	}
	if choices, err = policy.Choose(items); err != nil {
		return nil, nil, err
	}
	for i, choice := range choices {
		if choice.Kept() {
			kept = append(kept, c.Versions[i])
		}
	}
	return kept, choices, nil
}

// Prune puts the versions that a policy does not keep into the trash, for the time grace. The
// versions that were made from them are first made from others. It returns what it planned.
func (s *Store) Prune(ctx context.Context, policy Policy, groups plan.Globs, grace time.Duration) (PrunePlan, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return PrunePlan{}, err
	}
	defer unlock()
	p, err := s.PlanPrune(ctx, policy, groups, grace)
	if err != nil {
		return p, err
	}
	if _, err := s.checkSpace(s.dir, p.Space); err != nil {
		return p, err
	}
	for _, to := range p.Groups {
		if err := s.pruneGroup(ctx, to, p.Due); err != nil {
			return p, err
		}
	}
	return p, ctx.Err()
}

// pruneGroup prunes a group.
func (s *Store) pruneGroup(ctx context.Context, to GroupPrune, due time.Time) error {
	g, err := s.change(ctx, to.Group)
	if err != nil {
		return err
	}
	defer g.Close()
	next := g.C.Clone()
	next.Versions = nil
	for i, v := range g.C.Versions {
		if to.Versions[i].Kept() {
			next.Versions = append(next.Versions, v)
		} else {
			next.Trash = append(next.Trash, catalog.Pruned{Version: v, Pruned: s.o.Now().UTC().Round(time.Second), Due: due})
		}
	}
	if len(next.Versions) == len(g.C.Versions) {
		return nil
	}
	slices.SortFunc(next.Trash, func(a, b catalog.Pruned) int { return cmp.Compare(a.Version.Version, b.Version.Version) })
	changes := arrangement(g.C, next.Versions, -1, s.o.MaxChain)
	arrange := &arranger{s, g, next.Versions, nil, s.meter(units(next.Versions, changes)), nil}
	if err := arrange.work(ctx, changes); err != nil {
		return err
	}
	return g.Commit(ctx, next)
}

// InTrash is a version in the trash.
type InTrash struct {
	Group   string    `json:"group"`
	Version string    `json:"version"`
	Size    int64     `json:"size"` // bytes of its file
	Due     time.Time `json:"due"`
}

// Collected is what GC did.
type Collected struct {
	Removed []InTrash `json:"removed"`
	Waiting []InTrash `json:"waiting"`
	Bytes   int64     `json:"bytes"` // of the files that were removed
}

// GC removes what is due in the trash, and what dead runs have left. A version on which another
// in the trash rests that is not due yet waits for that. With dryRun it changes nothing.
func (s *Store) GC(ctx context.Context, dryRun bool) (r Collected, err error) {
	r = Collected{Removed: []InTrash{}, Waiting: []InTrash{}}
	if !dryRun {
		unlock, err := s.lock(ctx)
		if err != nil {
			return r, err
		}
		defer unlock()
	}
	names, err := s.names()
	if err != nil {
		return r, err
	}
	for _, name := range names {
		if err := s.collect(ctx, name, dryRun, &r); err != nil {
			return r, err
		}
	}
	if !dryRun {
		if err := s.collectGuests(ctx); err != nil {
			return r, err
		}
	}
	return r, ctx.Err()
}

// collect empties the trash of a group.
func (s *Store) collect(ctx context.Context, name string, dryRun bool, r *Collected) error {
	open := func(name string) (*group.Group, error) { return s.change(ctx, name) }
	if dryRun {
		open = s.open
	}
	g, err := open(name)
	if err != nil {
		return err
	}
	defer g.Close()
	next := g.C.Clone()
	next.Trash = nil
	waits := waiting(g.C, s.o.Now())
	for _, p := range g.C.Trash {
		item := InTrash{name, p.Version.Version, p.Stored.Size, p.Due}
		if waits[p.Version.Version] {
			next.Trash = append(next.Trash, p)
			r.Waiting = append(r.Waiting, item)
		} else {
			r.Removed = append(r.Removed, item)
			r.Bytes += item.Size
		}
	}
	if dryRun || len(next.Trash) == len(g.C.Trash) {
		return nil
	}
	return g.Commit(ctx, next)
}

// waiting returns which versions of the trash stay: those that are not due, and those on which
// they rest.
func waiting(c *catalog.Catalog, now time.Time) map[string]bool {
	waits := make(map[string]bool)
	for _, p := range c.Trash {
		if !p.Due.After(now) {
			continue
		}
		steps, _ := c.Path(p.Version.Version)
		for _, step := range steps {
			waits[step.Version.Version] = true
		}
	}
	return waits
}

// Protect says whether a version stays whatever the policy. The name of a guest stands for all
// its disks.
func (s *Store) Protect(ctx context.Context, group, version string, protected bool) error {
	return s.edit(ctx, group, version, func(v *catalog.Version) { v.Protected = protected })
}

// Note sets the note of a version: a line of at most 4 KiB, "" for none. The name of a guest
// stands for all its disks.
func (s *Store) Note(ctx context.Context, group, version, note string) error {
	if err := catalog.CheckNote(note); err != nil {
		return err
	}
	return s.edit(ctx, group, version, func(v *catalog.Version) { v.Note = note })
}

// edit changes what the catalog says of a version, of all disks of a guest that have it.
func (s *Store) edit(ctx context.Context, name, version string, change func(*catalog.Version)) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names := []string{name}
	if disks := s.disksOf(name); len(disks) > 0 {
		names = disks
	}
	changed := 0
	for _, name := range names {
		err := s.editGroup(ctx, name, version, change)
		if err == nil {
			changed++
		} else if !errors.Is(err, ErrUnknown) || len(names) == 1 {
			return err
		}
	}
	if changed == 0 {
		return fmt.Errorf("version %s of %s is %w", untrusted.Quote(version), name, ErrUnknown)
	}
	return nil
}

// editGroup does so in one group.
func (s *Store) editGroup(ctx context.Context, name, version string, change func(*catalog.Version)) error {
	g, err := s.change(ctx, name)
	if err != nil {
		return err
	}
	defer g.Close()
	if _, err := g.Path(version); err != nil {
		return err
	}
	next := g.C.Clone()
	i := next.Index(version)
	if i < 0 {
		return fmt.Errorf("version %s of %s is %w, only in its trash", version, name, ErrUnknown)
	}
	before := next.Versions[i]
	change(&next.Versions[i])
	if next.Versions[i] == before {
		return nil
	}
	return g.Commit(ctx, next)
}
