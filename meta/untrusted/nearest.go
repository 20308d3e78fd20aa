package untrusted

import "math"

// Nearest returns the word that a wrong one resembles, for a message that asks whether it
// is meant: at most a third of its bytes differ. It returns "" if none does.
func Nearest(wrong string, words []string) (near string) {
	least := math.MaxInt
	for _, w := range words {
		most := len(w) / 3
		if len(wrong) > len(w)+most { // or a long one would take long
			continue
		}
		if d := distance(wrong, w); d <= most && d < least {
			near, least = w, d
		}
	}
	return near
}

// distance returns the number of bytes to change, add or remove to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from a, as far as it was read, to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of a without its last byte, and b without its last
		row[0] = i + 1
		for j := range len(b) {
			changed := before
			if a[i] != b[j] {
				changed++
			}
			before = row[j+1]
			row[j+1] = min(changed, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
