package hook

import "regexp"

// argument is what the last command of a hook gets.
const argument = ` "$1"`

var (
	// ending matches a command, and what it ends in: one ; or &, a comment, blanks. A
	// line that the next one continues ends in a blank.
	ending = regexp.MustCompile(`(?s)^(.*?[^\s\\;&|])((?:\s|\\\n)*[;&]?(?:(?:\s|\\\n)*\s(?:\\\n)*#[^'"\n]*)?\s*)$`)
	// commented matches a command that may have a comment in its last line.
	commented = regexp.MustCompile(`(?:^|[\s;&|(])#[^\n]*$`)
	// compound matches a command that takes no argument.
	compound = regexp.MustCompile(`(?:^|[^\\][;&|\n])\s*(?:fi|done|esac|\})$`)
)

// withPath returns a shell command whose last command has $1 as its last argument. If it
// is not certain where that ends, $1 is the last word of the text.
func withPath(command string) string {
	m := ending.FindStringSubmatch(command)
	switch {
	case m == nil || commented.MatchString(m[1]):
		return command + argument
	case compound.MatchString(m[1]):
		return command
	}
	return m[1] + argument + m[2]
}
