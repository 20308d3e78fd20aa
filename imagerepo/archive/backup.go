package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/attached"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/disk"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/guest"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/throttle"
	"puavo-image-repository/meta/untrusted"
)

// ErrDisk is wrapped by the error for a disk that is not backed up, whatever its content.
var ErrDisk = disk.ErrRefused

// BackupOptions say what Backup does.
type BackupOptions struct {
	Guest string
	// Disks are [NAME=]SOURCE each, SOURCE a path, raw:PATH, qcow2:PATH, or the address of an NBD
	// export: nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH.
	Disks   []string
	Attach  []string // files to keep with the version
	Version string   // such as 2024-01-31-120000; "" is the present time, in UTC
	Rate    int64    // bytes a second that are read of the disks at most; 0 is no limit
}

// BackupPlan is what Backup does.
type BackupPlan struct {
	Store   string       `json:"store"`
	Guest   string       `json:"guest"`
	Version string       `json:"version"`
	Disks   []BackupDisk `json:"disks"`
	Space   int64        `json:"space"` // bytes of the archive's disk that are needed at most
	Free    int64        `json:"free"`  // bytes
}

// BackupDisk is what becomes of a disk.
type BackupDisk struct {
	guest.Plan
	Changed int64 `json:"changed"` // bytes that differ from the parent, once it is known
}

// backup is a run of Backup.
type backup struct {
	s     *Store
	o     BackupOptions
	dir   atomicfile.Dir // of the guest; zero if it is missing
	dirs  []atomicfile.Dir
	disks []*guest.Disk
	stays []bool // whether that stays whole
	plan  BackupPlan
	made  []guest.Waiting
}

// PlanBackup returns what Backup would do. It changes nothing.
func (s *Store) PlanBackup(ctx context.Context, o BackupOptions) (BackupPlan, error) {
	b, err := s.openBackup(ctx, o)
	if err != nil {
		return BackupPlan{}, err
	}
	b.close()
	return b.plan, nil
}

// openBackup opens the disks, and the versions before.
func (s *Store) openBackup(ctx context.Context, o BackupOptions) (*backup, error) {
	specs, err := s.checkBackup(&o)
	if err != nil {
		return nil, err
	}
	b := &backup{s: s, o: o, plan: BackupPlan{Store: s.path, Guest: o.Guest, Version: o.Version}}
	for _, spec := range specs {
		if err := b.open(ctx, spec); err != nil {
			b.close()
			return nil, err
		}
	}
	if b.plan.Free, err = freeAt(s.path); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// checkBackup checks the options, and sets the version.
func (s *Store) checkBackup(o *BackupOptions) (specs []disk.Spec, err error) {
	if o.Version == "" {
		o.Version = s.o.Now().UTC().Format(catalog.Layout)
	}
	_, err = catalog.ParseVersion(o.Version)
	if _, groupErr := catalog.ParseGroup(o.Guest); groupErr != nil || strings.Contains(o.Guest, "/") {
		err = fmt.Errorf("%s cannot be the name of a guest; take letters and digits", untrusted.Quote(o.Guest))
	}
	switch err = cmp.Or(err, attached.Check(o.Attach)); {
	case err != nil:
		return nil, err
	case s.isGroup(o.Guest):
		return nil, fmt.Errorf("%s is a group of images in this archive; give the guest another name", o.Guest)
	case len(o.Disks) == 0:
		return nil, errors.New("no disk is given")
	}
	for _, text := range o.Disks {
		spec, err := disk.ParseSpec(text)
		if err == nil {
			err = catalog.CheckDisk(spec.Name)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(specs, func(o disk.Spec) bool { return o.Name == spec.Name }) {
			return nil, fmt.Errorf("two disks have the name %s; give others, such as vda=%s", spec.Name, untrusted.Show(spec.Source))
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// open opens a disk, and the version before.
func (b *backup) open(ctx context.Context, spec disk.Spec) error {
	name := b.o.Guest + "/" + spec.Name
	var newest *catalog.Version
	var dir atomicfile.Dir
	stays := false
	if b.s.isGroup(name) {
		g, err := b.s.open(name)
		if err != nil {
			return err
		}
		b.dirs = append(b.dirs, g.Dir)
		dir, newest = g.Dir, g.C.Newest()
		if newest.Version >= b.o.Version {
			return fmt.Errorf("%s has version %s already, which is not older than %s; is the clock right?", name, newest.Version, b.o.Version)
		}
		stays = b.s.stays(g, b.o.Version)
	}
	d, err := guest.Open(ctx, dir, newest, spec)
	if err != nil {
		return err
	}
	b.disks, b.stays = append(b.disks, d), append(b.stays, stays)
	p := d.Plan(name, filepath.Join(b.s.path, name))
	b.plan.Disks = append(b.plan.Disks, BackupDisk{Plan: p})
	b.plan.Space += p.Space
	return nil
}

// stays reports whether the newest version of a group stays whole when another comes.
func (s *Store) stays(g *group.Group, version string) bool {
	next := append(slices.Clone(g.C.Versions), catalog.Version{Version: version, Stored: catalog.Stored{Form: catalog.Whole}})
	at := len(next) - 2
	return !slices.Contains(arrangement(g.C, next, at, s.o.MaxChain), change{at, false})
}

func (b *backup) close() {
	for _, d := range b.disks {
		d.Close()
	}
	for _, dir := range b.dirs {
		dir.Close()
	}
	if !b.dir.IsZero() {
		b.dir.Close()
	}
}

// Backup adds a version of each disk of a guest. The version before becomes a delta, of those
// parts that changed: where a bitmap says which, only these are read, or else all. It returns
// what it did. All disks get the version, or none: after an error none has it, and the log is in
// <guest>/<version>.failed; or, where this process dies or the disk fails between the catalogs of
// two disks, the next call that changes the archive gives it to the others.
func (s *Store) Backup(ctx context.Context, o BackupOptions) (BackupPlan, error) {
	if _, err := s.checkBackup(&o); err != nil {
		return BackupPlan{}, err
	}
	dir, unlock, err := s.lockGuest(ctx, o.Guest)
	if err != nil {
		return BackupPlan{}, err
	}
	defer unlock()
	r, err := attached.Begin(dir, o.Version, s.o.Now)
	if err != nil {
		dir.Close()
		return BackupPlan{}, err
	}
	b, err := s.openBackup(ctx, o)
	if err != nil {
		err = errors.Join(err, r.Fail(err))
		dir.Close()
		return BackupPlan{}, err
	}
	b.dir = dir
	defer b.close()
	err = b.run(ctx, r)
	switch {
	case err != nil && guest.IsDecided(dir):
		return b.plan, fmt.Errorf("the backup is complete, but not all disks have the version; the next command that changes the archive gives it to them: %w", err)
	case err != nil:
		return b.plan, errors.Join(err, b.clean(), r.Fail(err))
	}
	return b.plan, nil
}

// run makes the versions and names them.
func (b *backup) run(ctx context.Context, r *attached.Record) error {
	s := b.s
	r.Logf("backup of %s, version %s", b.o.Guest, b.o.Version)
	if _, err := s.checkSpace(s.dir, b.plan.Space); err != nil {
		return err
	}
	for _, file := range b.o.Attach {
		if err := r.Attach(ctx, file); err != nil {
			return err
		}
		r.Logf("attached %s", filepath.Base(file))
	}
	var total int64
	for _, d := range b.plan.Disks {
		total += d.Size
	}
	limit, m := throttle.New(b.o.Rate), s.meter(total)
	for i := range b.disks {
		if err := b.make(ctx, i, limit, m, r); err != nil {
			return fmt.Errorf("%s: %w", b.plan.Disks[i].Group, err)
		}
	}
	return b.commit(ctx, r)
}

// commit names the versions of all disks.
func (b *backup) commit(ctx context.Context, r *attached.Record) error {
	unlock, err := b.s.waitLock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.Keep(); err != nil {
		return err
	}
	if err := guest.Decide(b.dir, b.made); err != nil {
		return errors.Join(err, guest.Settled(b.dir))
	}
	return b.s.finish(ctx, b.dir, b.o.Guest)
}

// make makes the version of a disk.
func (b *backup) make(ctx context.Context, i int, limit *throttle.Limit, m *meter.Meter, r *attached.Record) error {
	p := &b.plan.Disks[i]
	defer m.Begin("archive_backup", p.Group+"/"+b.o.Version)()
	if err := errors.Join(b.s.dir.MkdirAll(p.Group, 0o777), b.dir.SyncDir(".")); err != nil {
		return err
	}
	dir, err := b.s.dir.Sub(p.Group)
	if err != nil {
		return err
	}
	b.dirs = append(b.dirs, dir)
	if p.Full == "" {
		r.Logf("%s: %d bytes, those that changed since %s, by the bitmap %s", p.Group, p.Size, p.Parent, p.Bitmap)
	} else {
		r.Logf("%s: %d bytes, all read: %s", p.Group, p.Size, p.Full)
	}
	o := guest.Options{Version: b.o.Version, Stays: b.stays[i], Progress: m.Add}
	if limit != nil {
		o.Read = limit.Wait
	}
	made, err := b.disks[i].Make(ctx, dir, o)
	if err != nil {
		return err
	}
	if made.Full != "" {
		p.Full, p.Bitmap = made.Full, ""
		r.Logf("%s: all read: %s", p.Group, made.Full)
	}
	if made.Waiting.Lost {
		p.Parent, p.Way = "", "none"
		b.s.o.Log.Warn("the version before is missing or damaged; run archive verify", "group", p.Group, "version", made.Waiting.Parent)
	}
	p.Read, p.Changed = made.Read, made.ChangedBytes()
	w := made.Waiting
	w.Group, w.Version.Name, w.Version.Added = p.Group, catalog.DiskName(p.Group, b.o.Version), b.s.o.Now().UTC().Round(time.Second)
	b.made = append(b.made, w)
	r.Logf("%s: %d bytes read, %d changed, delta of %d bytes, BLAKE3 %s", p.Group, p.Read, p.Changed, w.Delta.Size, w.Version.BLAKE3)
	return nil
}
