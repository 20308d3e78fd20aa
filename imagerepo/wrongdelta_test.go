package imagerepo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/meta"
)

// wrongEncoder makes deltas that are wrong: they make another target, one that is
// shorter or longer, none at all, or are no deltas.
type wrongEncoder struct {
	base.Encoder
	spoil func(delta, target []byte) []byte
}

func (w wrongEncoder) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error) {
	var right bytes.Buffer
	stats, err := w.Encoder.Diff(ctx, &right, target, progress)
	if err == nil {
		_, err = dst.Write(w.spoil(right.Bytes(), bytes.Clone(target)))
	}
	return stats, err
}

// literal returns the delta that makes these bytes of nothing.
func literal(data []byte) []byte {
	head := []byte{'r', 's', 2, 0x36, 0x43, byte(len(data) >> 24), byte(len(data) >> 16), byte(len(data) >> 8), byte(len(data))}
	return append(append(head, data...), 0)
}

// Whatever the encoder makes, no delta is published that does not make its target,
// and the other series are built.
func TestWrongDelta(t *testing.T) {
	t.Cleanup(func() { imageEncoder = nil })
	twin := "puavo-os-free-buster-2022-03-04-140532-amd64.img"
	for kind, spoil := range map[string]func(delta, target []byte) []byte{
		"another byte":       func(_, target []byte) []byte { return literal(append([]byte{target[0] + 1}, target[1:]...)) },
		"too short":          func(_, target []byte) []byte { return literal(target[1:]) },
		"too long":           func(_, target []byte) []byte { return literal(append(target, 0)) },
		"nothing":            func(_, _ []byte) []byte { return []byte("rs\x026\x00") },
		"cut off":            func(delta, _ []byte) []byte { return delta[:len(delta)-1] },
		"no delta":           func(_, _ []byte) []byte { return []byte("text") },
		"a byte of it flips": func(delta, _ []byte) []byte { delta[len(delta)/2] ^= 1; return delta },
	} {
		p := newPlace(t, image3, image4)
		p.Policy.MaxRatio = 2
		p.add(other)
		p.write(twin, p.read(image3))
		imageEncoder = func(path string, right base.Encoder) base.Encoder {
			if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, p.read(image3)) { // the base of one delta in each series
				return right
			}
			return wrongEncoder{right, func(delta, target []byte) []byte {
				if !bytes.Equal(target, p.read(image4)) {
					return delta
				}
				return spoil(bytes.Clone(delta), target)
			}}
		}
		_, s, err := Build(t.Context(), p.Options)
		failed, ok := errors.AsType[*SeriesError](err)
		if !ok || failed.Built != 1 || len(failed.Failed) != 1 || !strings.Contains(err.Error(), base.ErrWrong.Error()) || s.Series != 1 {
			t.Errorf("%s: %v, %+v", kind, err, s)
		}
		p.valid()
		p.rightDeltas()
		if strings.Contains(p.tree(), meta.DeltaName(name(image3), name(image4))) {
			t.Errorf("%s: the wrong delta is published:\n%s", kind, p.tree())
		}
		p.Strict = true
		if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, base.ErrWrong) {
			t.Errorf("%s, strictly: %v", kind, err)
		}
		imageEncoder, p.Strict = nil, false
		if p.build(); !strings.Contains(p.tree(), meta.DeltaName(name(image3), name(image4))) {
			t.Errorf("%s: the next run does not make it", kind)
		}
	}
}
