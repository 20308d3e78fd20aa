package work

import (
	"context"
	"errors"
	"strings"
	"testing"

	"puavo-image-repository/delta"
)

func file(n byte, size int64) File {
	f := File{Size: size}
	f.BLAKE3[0] = n
	return f
}

func jobs() map[string]Job {
	return map[string]Job{
		"rdiff":   {Format: Format, Kind: RDiff, Base: file(1, 10), Target: file(2, 20), Effort: delta.Default, Index: 1 << 20, Limit: 18},
		"compact": {Format: Format, Kind: Compact, Base: file(1, 10), Target: file(2, 20), Effort: delta.Best, Index: 64 << 20, Limit: 9},
		"full":    {Format: Format, Kind: Compact, Target: file(2, 20), Effort: delta.Fast, Index: 64 << 20, Limit: 9},
		"verify":  {Format: Format, Kind: Verify, Base: file(1, 10), Target: file(2, 20), Delta: file(3, 5)},
	}
}

// A job has one form, and every difference gives it another ID.
func TestForm(t *testing.T) {
	seen := make(map[ID]string)
	for name, j := range jobs() {
		got, err := Parse(j.JSON())
		if err != nil || got != j {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if len(j.JSON()) > MaxJob/2 {
			t.Errorf("%s: %d bytes", name, len(j.JSON()))
		}
		for i, change := range []func(*Job){
			func(*Job) {}, func(j *Job) { j.Base.Size++ }, func(j *Job) { j.Base.BLAKE3[9]++ }, func(j *Job) { j.Target.Size++ },
			func(j *Job) { j.Target.BLAKE3[9]++ }, func(j *Job) { j.Index++ }, func(j *Job) { j.Limit++ }, func(j *Job) { j.Delta.Size++ },
			func(j *Job) { j.Delta.BLAKE3[9]++ }, func(j *Job) { j.Format++ }, func(j *Job) { j.Effort += "x" }, func(j *Job) { j.Kind += "x" },
		} {
			other := j
			change(&other)
			if by, ok := seen[other.ID()]; ok {
				t.Errorf("%s with change %d has the ID of %s", name, i, by)
			}
			seen[other.ID()] = name
		}
	}
	const known = "54da4b1126f0a191a20b32531e7057d4bd6065dea2349d905f9236ca8e845545"
	if got := jobs()["rdiff"].ID().String(); got != known {
		t.Errorf("the ID of a job has changed to %s: is that another Format?", got)
	}
}

// What is no job of this version, or has another form, is refused.
func TestParse(t *testing.T) {
	good := func(name string) string { return string(jobs()[name].JSON()) }
	for name, text := range map[string]string{
		"empty":             "",
		"not JSON":          "{",
		"another format":    strings.Replace(good("rdiff"), `"format":1`, `"format":2`, 1),
		"another kind":      strings.Replace(good("rdiff"), `"rdiff"`, `"x"`, 1),
		"another effort":    strings.Replace(good("rdiff"), `"default"`, `"most"`, 1),
		"a space":           strings.Replace(good("rdiff"), `:1,`, `: 1,`, 1),
		"an unknown key":    strings.Replace(good("rdiff"), `{"format"`, `{"x":1,"format"`, 1),
		"a key twice":       strings.Replace(good("rdiff"), `{"format":1`, `{"format":1,"format":1`, 1),
		"more behind it":    good("rdiff") + "{}",
		"a negative size":   strings.Replace(good("rdiff"), `"size":10`, `"size":-10`, 1),
		"a huge size":       strings.Replace(good("rdiff"), `"size":10`, `"size":9000000000000000000`, 1),
		"a short digest":    strings.Replace(good("rdiff"), `"01`, `"`, 1),
		"rdiff for nothing": strings.Replace(good("full"), `"compact"`, `"rdiff"`, 1),
		"no index":          strings.Replace(good("rdiff"), `"index":1048576,`, ``, 1),
		"verify an rdiff":   strings.Replace(good("rdiff"), `"rdiff"`, `"verify"`, 1),
		"make a delta":      strings.Replace(good("verify"), `"verify"`, `"compact"`, 1),
		"too long":          `{"x":"` + strings.Repeat("x", MaxJob) + `"}`,
	} {
		if j, err := Parse([]byte(text)); !errors.Is(err, ErrJob) {
			t.Errorf("%s: %+v, %v", name, j, err)
		}
	}
}

// A job takes at least its index and what is done with it.
func TestMemory(t *testing.T) {
	for name, want := range map[string][2]int64{
		"rdiff": {97 << 20, 129 << 20}, "compact": {256 << 20, 448 << 20}, "full": {256 << 20, 448 << 20}, "verify": {192 << 20, 192 << 20},
	} {
		if j := jobs()[name]; j.Memory(1) != want[0] || j.Memory(2) != want[1] {
			t.Errorf("%s: %d on one core, %d on two", name, j.Memory(1), j.Memory(2))
		}
	}
	large := jobs()["compact"]
	if large.Index = 1 << 30; large.Memory(1) != 1<<30+96<<20 {
		t.Error(large.Memory(1))
	}
	if large.Size() != 30 {
		t.Error(large.Size())
	}
}

func FuzzParse(f *testing.F) {
	for _, j := range jobs() {
		f.Add(j.JSON())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrJob) {
				t.Fatal(err)
			}
			return
		}
		if string(j.JSON()) != string(data) || j.Memory(1) <= 0 {
			t.Errorf("%s is read as %+v", data, j)
		}
	})
}

// batch is one of which only the end matters.
type batch struct {
	Batch
	idle int
}

func (b *batch) Idle() { b.idle++ }

// Both ends work at the same time; an error of one ends the other.
func TestShare(t *testing.T) {
	fault := errors.New("a fault")
	begun := make(chan bool)
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		here, there func(context.Context) error
		cancelled   bool
		want        error
	}{
		"together":    {func(context.Context) error { begun <- true; return nil }, func(context.Context) error { <-begun; return nil }, false, nil},
		"here fails":  {func(context.Context) error { return fault }, wait, false, fault},
		"there fails": {wait, func(context.Context) error { return fault }, false, fault},
		"cancelled":   {wait, wait, true, context.Canceled},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancelled {
			cancel()
		}
		b := &batch{}
		if err := Share(ctx, b, c.here, c.there); !errors.Is(err, c.want) || c.want == nil && b.idle != 1 {
			t.Errorf("%s: %v, idle %d times", name, err, b.idle)
		}
		cancel()
	}
}
