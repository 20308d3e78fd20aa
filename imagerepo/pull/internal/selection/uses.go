package selection

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Uses says how many devices use an image, by its name without .img, or by the 14 digits of
// its version.
type Uses map[string]int

// Of returns how many devices use an image.
func (u Uses) Of(n meta.Name) int { return add(u[n.ID()], u[n.Digits()]) }

// add adds numbers of devices, up to a bound.
func add(a, b int) int { return min(a+b, math.MaxInt32) }

// maxDigits is how many digits a number of devices can have, fewer than a version.
const maxDigits = 9

// ParseUses parses a keep-list. The error names the line.
func ParseUses(data []byte) (Uses, error) {
	u := make(Uses)
	lines := bufio.NewScanner(bytes.NewReader(data))
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		version, count, err := parseUse(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		u[version] = add(u[version], count)
	}
	return u, lines.Err()
}

// parseUse parses the fields of a line.
func parseUse(fields []string) (version string, count int, err error) {
	if len(fields) > 2 {
		return "", 0, fmt.Errorf("%d words, want a version and a number", len(fields))
	}
	count = 1
	if len(fields) == 2 {
		number := 1
		if isCount(fields[0]) {
			number = 0
		}
		if !isCount(fields[number]) {
			return "", 0, fmt.Errorf("%s is no number of devices", untrusted.Quote(fields[number]))
		}
		count, _ = strconv.Atoi(fields[number]) // it is short
		fields = []string{fields[1-number]}
	}
	version, err = parseVersion(fields[0])
	return version, count, err
}

func isCount(s string) bool {
	return s != "" && len(s) <= maxDigits && strings.Trim(s, "0123456789") == ""
}

// parseVersion returns the key of a Uses.
func parseVersion(s string) (string, error) {
	if n, err := meta.ParseOldName(strings.TrimSuffix(s, ".img") + ".img"); err == nil {
		return n.ID(), nil
	}
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) == len("20060102150405") && strings.Trim(digits, "0123456789") == "" {
		return digits, nil
	}
	return "", fmt.Errorf("%s is no version of an image", untrusted.Quote(s))
}
