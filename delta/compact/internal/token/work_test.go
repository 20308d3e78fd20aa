package token

import (
	"testing"

	"puavo-image-repository/delta/compact/internal/lzo"
)

// The work is bounded whatever the content and whatever a stream says: that tokens are those
// of a compressor, all literals, one literal after another although there are matches, or
// matches of other lengths than expected.
func TestWork(t *testing.T) {
	t.Parallel()
	const most = 14 // for each byte, with an allowance of 8
	w := newWalker()
	worst := 0.0
	for name, content := range contents(scaled()) {
		if len(content) < 100 {
			continue
		}
		single := make([]lzo.Token, len(content))
		for i := range single {
			single[i].Length = 1
		}
		usual := greedy(content).tokens
		for kind, tokens := range map[string][]lzo.Token{
			"matches": usual, "literals": {{Length: uint32(len(content))}}, "one by one": single, "crumbs": crumbs(usual),
		} {
			w.coder = encodingTo(nil)
			w.reset()
			w.begin(content, Default.Depth, Default.Allowance)
			w.tokens = tokens
			if err := w.block(); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			work := float64(w.work) / float64(len(content))
			if worst = max(worst, work); work > most {
				t.Errorf("%s, %s: work of %.1f for each byte", name, kind, work)
			}
		}
	}
	t.Logf("the most work is %.1f for each byte", worst)
}

// crumbs cuts matches into pieces of 3 bytes.
func crumbs(tokens []lzo.Token) (all []lzo.Token) {
	for _, t := range tokens {
		for ; t.Distance > 0 && t.Length >= 6; t.Length -= 3 {
			all = append(all, lzo.Token{Length: 3, Distance: t.Distance})
		}
		all = append(all, t)
	}
	return all
}
