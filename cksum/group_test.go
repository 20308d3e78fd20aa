package cksum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// TestGroup reads 1 to 9 streams at the same time, with ends around the borders of blocks
// and buffers.
func TestGroup(t *testing.T) {
	sizes := []int{
		5*bufferSize + 77, 3 * bufferSize, bufferSize + 1, 3*bufferSize - 1, 2*bufferSize + 129,
		0, 1, 111, 112, 127, 128, 129, bufferSize - 1, bufferSize, 2*bufferSize + 112, 2 * bufferSize,
	}
	wanted := make(map[int]Sums)
	for _, size := range sizes {
		wanted[size] = oneShot(random(size))
	}
	for n := 1; n <= 9; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var g Group
			var calls sync.WaitGroup
			for i := range n {
				calls.Go(func() {
					for j := i; j < len(sizes); j += n {
						size := sizes[j]
						got, err := g.read(t.Context(), iotest.HalfReader(bytes.NewReader(random(size))))
						if got != wanted[size] || err != nil {
							t.Errorf("%d bytes: got %+v, %v, want %+v", size, got, err, wanted[size])
						}
					}
				})
			}
			calls.Wait()
			if g.calls != 0 || len(g.waiting) != 0 {
				t.Errorf("%d calls and %d places are left", g.calls, len(g.waiting))
			}
		})
	}
}

// TestGroupRead is of what Read and Group.Read have in common, on this processor.
func TestGroupRead(t *testing.T) {
	data, broken := random(3*bufferSize+1), errors.New("broken")
	ended, end := context.WithCancel(t.Context())
	end()
	midst, cancel := context.WithCancel(t.Context())
	for _, tt := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		err  error
	}{
		{"whole", t.Context(), bytes.NewReader(data), nil},
		{"broken", t.Context(), io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), broken},
		{"cancelled before", ended, iotest.ErrReader(broken), context.Canceled},
		{"cancelled", midst, &cancelReader{bytes.NewReader(data), cancel}, context.Canceled},
	} {
		want := sumsOf(data)
		if tt.err != nil {
			want = Sums{}
		}
		if got, err := new(Group).Read(tt.ctx, tt.r); got != want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %+v, %v, want %+v, %v", tt.name, got, err, want, tt.err)
		}
	}
}

// TestGroupSHA512 holds what a Group takes for granted of a Hash; else its turns would be
// of other digests, right but slow.
func TestGroupSHA512(t *testing.T) {
	if name := New().proof[0].by.name; name != "SHA-512" {
		t.Errorf("the first digest of a Hash is %s, want SHA-512", name)
	}
}

// TestGroupTurns has calls join (j), fill a buffer (f) and leave (l), and tells the turns
// that begin: the places are named a to i.
func TestGroupTurns(t *testing.T) {
	for _, tt := range []struct{ steps, want string }{
		{"ja fa", "a"},
		{"ja jb fa", ""},
		{"ja jb fa fb", "ab"},
		{"ja jb fb fa", "ba"},
		{"ja jb jc jd fa fb fc", ""},
		{"ja jb jc jd fd fb fc fa", "dbca"},
		{"ja jb jc jd je fe fa fb", ""},
		{"ja jb jc jd je fe fa fb fd", "eabd"},
		{"ja jb jc jd je fe fa fb fd fc fa fd", "eabd"},
		{"ja jb jc jd je fe fa fb fd fc fa fd fb", "eabd cadb"},
		{"ja jb jc jd je fe fa fb le", "e"},
		{"ja jb fa lb", "a"},
		{"ja jb fa la", "a"},
		{"ja jb fa la fb", "a b"},
		{"ja jb jc fa fb lc", "ab"},
		{"ja jb jc fa fb la", "a"},
		{"ja jb jc fa fb la fc", "a bc"},
		{"ja jb jc fa fb la la fc", "a bc"},
		{"ja fa jb fb", "a"},
		{"ja fa jb fb fa", "a ba"},
		{"ja jb fa jc fb", ""},
		{"ja jb fa jc fb fc", "abc"},
		{"ja la fa", "a"},
	} {
		if got := turns(tt.steps); got != tt.want {
			t.Errorf("%s: got turns %q, want %q", tt.steps, got, tt.want)
		}
	}
}

// turns takes the steps and returns the turns, each of which ends at once.
func turns(steps string) string {
	var g Group
	var began []string
	places, names := make(map[byte]*place), make(map[*place]string)
	for step := range strings.FieldsSeq(steps) {
		switch name := step[1]; step[0] {
		case 'j':
			places[name] = g.join(nil)
			names[places[name]] = string(name)
		case 'f':
			places[name].wait()
		case 'l':
			places[name].leave()
		}
		for _, p := range places {
			select {
			case turn := <-p.turn:
				began = append(began, "")
				for _, q := range turn {
					began[len(began)-1] += names[q]
				}
			default:
			}
		}
	}
	return strings.Join(began, " ")
}

// A call of TestGroupWaits. Its stream is of four buffers and 5 bytes.
type call struct {
	start   time.Duration // when it begins
	pause   time.Duration // before each of its 6 reads, the last of which has io.EOF
	timeout time.Duration // of its context
	fail    func() error  // what its third read does instead
	err     error
	end     time.Duration // when it returns
}

// TestGroupWaits tells who waits for whom. The time is that of a bubble, which passes only
// when all wait.
func TestGroupWaits(t *testing.T) {
	broken := errors.New("broken")
	fails := func() error { return broken }
	panics := func() error { panic(broken) }
	const second, minute, hour = time.Second, time.Minute, time.Hour
	reads := func(end time.Duration) call { return call{pause: second, end: end} }
	for name, calls := range map[string][]call{
		"alone": {reads(6 * second)},
		"four":  {reads(6 * second), reads(6 * second), reads(6 * second), reads(6 * second)},
		"one of four blocks": { // until its third buffer is full, after which the last goes by itself
			reads(3*hour + 2*second), reads(3*hour + 2*second), reads(3*hour + 2*second), {pause: hour, end: 6 * hour},
		},
		"one of five blocks": {
			reads(6 * second), reads(6 * second), reads(6 * second), reads(6 * second), {pause: hour, end: 6 * hour},
		},
		"one is cancelled while its reader blocks": {
			reads(minute + 4*second), reads(minute + 4*second),
			{pause: hour, timeout: minute, err: context.DeadlineExceeded, end: hour},
		},
		"one is cancelled while it waits": {
			{pause: second, timeout: minute, err: context.DeadlineExceeded, end: minute},
			{pause: hour, end: 6 * hour},
		},
		"one fails": {
			reads(32 * second), reads(32 * second), reads(32 * second),
			{pause: 10 * second, fail: fails, err: broken, end: 30 * second},
		},
		"one panics": {
			reads(32 * second), reads(32 * second),
			{pause: 10 * second, fail: panics, err: broken, end: 30 * second},
		},
		"one joins late": {
			reads(6 * second), reads(6 * second),
			{start: 2500 * time.Millisecond, pause: second, end: 8500 * time.Millisecond},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runCalls(t, calls) })
		})
	}
}

// runCalls runs the calls in a Group and compares what they return, and when.
func runCalls(t *testing.T, calls []call) {
	data := random(4*bufferSize + 5)
	want := sumsOf(data)
	var g Group
	var running sync.WaitGroup
	began := time.Now()
	for i, c := range calls {
		running.Go(func() {
			got, err := c.run(t.Context(), &g, data)
			if took := time.Since(began); took != c.end {
				t.Errorf("call %d ends after %v, want %v", i, took, c.end)
			}
			if !errors.Is(err, c.err) || err == nil && got != want || err != nil && got != (Sums{}) {
				t.Errorf("call %d: got %+v, %v, want %+v, %v", i, got, err, want, c.err)
			}
		})
	}
	running.Wait()
	if g.calls != 0 || len(g.waiting) != 0 {
		t.Errorf("%d calls and %d places are left", g.calls, len(g.waiting))
	}
}

func (c *call) run(ctx context.Context, g *Group, data []byte) (sums Sums, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	time.Sleep(c.start)
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	return g.read(ctx, &pacedReader{call: c, r: bytes.NewReader(data)})
}

// pacedReader reads as a call says.
type pacedReader struct {
	call  *call
	r     io.Reader
	reads int
}

func (r *pacedReader) Read(p []byte) (int, error) {
	time.Sleep(r.call.pause)
	r.reads++
	if r.reads == 3 && r.call.fail != nil {
		return 0, r.call.fail()
	}
	return r.r.Read(p)
}
