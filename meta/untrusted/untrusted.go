// Package untrusted takes what comes from outside the program: from mirrors, servers,
// records and files that others wrote. ReadAll and ReadFile bound what is read; Show,
// Quote and Error escape and shorten what people see of it. ShowLines is for a whole
// message, in case a part was not escaped. Nearest finds the word that a misspelt one may
// mean.
//
// What is shown has only printable characters of valid UTF-8, on one line. Others are
// written as Go writes them: a control character as \n or \x1b, a byte that is not
// UTF-8 as \xff, a mark that reverses text as \u202e. Ordinary text stays as it is.
// After 1024 bytes, in quotes after 256, it ends in an ellipsis.
package untrusted

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// The lengths of what is shown, in bytes, the ellipsis and quotes included.
const (
	maxShown  = 1 << 10
	maxQuoted = 256
	maxLines  = 16 << 10

	ellipsis = "…"
)

// Show returns a text for people.
func Show(text string) string { return show(text, "", "", maxShown) }

// ShowLines returns a text of several lines for people. It keeps newlines and tabs, and
// ends in an ellipsis after 16 KiB.
func ShowLines(text string) string { return show(text, "", "\n\t", maxLines) }

// Quote returns a text for people in double quotes. It escapes quotes and backslashes in
// it, so that the end of the text is plain. The quotes count for the length.
func Quote(text string) string { return `"` + show(text, `"\`, "", maxQuoted-2) + `"` }

// show escapes a text, with the special characters in it, but not those to keep, and
// cuts it to most bytes.
func show(text, special, keep string, most int) string {
	var b strings.Builder
	whole := 0 // bytes of b that leave room for the ellipsis
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		part := text[:size]
		invalid := r == utf8.RuneError && size == 1
		if invalid || !strconv.IsPrint(r) && !strings.ContainsRune(keep, r) || strings.ContainsRune(special, r) {
			part = strconv.Quote(part)
			part = part[1 : len(part)-1]
		}
		if b.Len()+len(part) > most {
			return b.String()[:whole] + ellipsis
		}
		b.WriteString(part)
		if b.Len()+len(ellipsis) <= most {
			whole = b.Len()
		}
		text = text[size:]
	}
	return b.String()
}

// Error returns an error with the text that Show makes of that of err, and wraps err. It
// is nil if err is.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return shown{err}
}

type shown struct{ error }

func (e shown) Error() string { return Show(e.error.Error()) }

func (e shown) Unwrap() error { return e.error }
