// Package chain says which versions of a group are stored whole, and which as a delta from
// the next newer one. The newest is whole. A version is made through the deltas that lead to
// it from the nearest newer version that is whole, and the number of those is bounded.
//
// Versions are given from the oldest to the newest, as whether each is stored whole.
package chain

// MaxDeltas is how many deltas make a version at most, unless somebody says otherwise.
const MaxDeltas = 16

// Length returns how many deltas make the version at i.
func Length(whole []bool, i int) (n int) {
	for ; i < len(whole) && !whole[i]; i++ {
		n++
	}
	return n
}

// CanBeDelta reports whether the version at i, which is whole, can be a delta instead: it is not
// the newest, and no version would take more than most deltas through it.
func CanBeDelta(whole []bool, i, most int) bool {
	if i == len(whole)-1 {
		return false
	}
	older := 0
	for j := i - 1; j >= 0 && !whole[j]; j-- {
		older++
	}
	return older+1+Length(whole, i+1) <= most
}

// Arrange returns which versions must be whole: those that are, the newest, and where more than
// most deltas would follow each other, one in between.
func Arrange(whole []bool, most int) []bool {
	to := make([]bool, len(whole))
	deltas := 0
	for i := len(whole) - 1; i >= 0; i-- {
		if to[i] = whole[i] || i == len(whole)-1 || deltas >= most; to[i] {
			deltas = 0
		} else {
			deltas++
		}
	}
	return to
}
