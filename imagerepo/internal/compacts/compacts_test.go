package compacts_test

import (
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
)

func TestDecide(t *testing.T) {
	base, target, none := cksum.Digest256{1}, cksum.Digest256{2}, cksum.Digest256{}
	stamp := state.Stamp{Size: 5, MTime: 6, CTime: 7, Inode: 8}
	record := func(change func(*state.Record)) *state.Record {
		r := &state.Record{Stamp: stamp, Sums: cksum.Sums{Size: 5, SHA512: cksum.Digest512{3}}, Base: base, Target: target}
		if change != nil {
			change(r)
		}
		return r
	}
	for _, c := range []struct {
		name         string
		record       *state.Record
		file         state.Stamp
		base, target cksum.Digest256
		want         plan.Action
	}{
		{"right", record(nil), stamp, base, target, plan.Keep},
		{"without a base", record(func(r *state.Record) { r.Base = none }), stamp, none, target, plan.Keep},
		{"applied by workers alone", record(func(r *state.Record) { r.Believed = true }), stamp, base, target, plan.Check},
		{"nothing is there", nil, state.Stamp{}, base, target, plan.Make},
		{"no record", nil, stamp, base, target, plan.Check},
		{"no file", record(nil), state.Stamp{}, base, target, plan.Make},
		{"another file", record(nil), state.Stamp{Size: 5, MTime: 6, CTime: 7, Inode: 9}, base, target, plan.Check},
		{"another base", record(nil), stamp, target, target, plan.Make},
		{"another target", record(nil), stamp, base, base, plan.Make},
		{"a base where none is needed", record(nil), stamp, none, target, plan.Make},
		{"dropped", record(func(r *state.Record) { r.Dropped, r.Sums.SHA512 = true, cksum.Digest512{} }), state.Stamp{}, base, target, plan.Drop},
		{"dropped, and one of before is there", record(func(r *state.Record) { r.Dropped = true }), stamp, base, target, plan.Drop},
		{"dropped for another base", record(func(r *state.Record) { r.Dropped = true }), state.Stamp{}, target, target, plan.Make},
		{"the target is not known", &state.Record{Dropped: true}, state.Stamp{}, none, none, plan.Make},
		{"begun", &state.Record{Base: base, Target: target}, state.Stamp{}, base, target, plan.Make},
		{"begun, and a file is there", &state.Record{Base: base, Target: target}, stamp, base, target, plan.Check},
	} {
		if got := compacts.Decide(c.record, c.file, c.base, c.target); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
