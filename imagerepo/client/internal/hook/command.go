package hook

import (
	"regexp"
	"slices"
	"strings"
)

// argument is what the last command of a hook gets.
const argument = ` "$1"`

// Words that begin and end a compound command. [ takes no argument after its ].
var (
	openers = []string{"{", "if", "then", "elif", "else", "for", "while", "until", "do", "case", "["}
	closers = []string{"}", "fi", "done", "esac", ")"}
)

// assignment begins a word that names no command.
var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// quoted matches what a word has escaped or in single quotes, and as $1 what it has in
// double quotes, in which parameters are expanded. usesPath finds the path among them.
var (
	quoted   = regexp.MustCompile(`(?s)("(?:[^"\\]|\\.)*")|\\.|'[^']*'`)
	usesPath = regexp.MustCompile(`\$\{?([1@*]|PUAVO_IMAGE)`)
)

// withPath returns a shell command whose last command has $1 as its last argument.
func withPath(text string) string {
	p, certain := parse(text)
	switch {
	case !certain:
		return text + argument
	case slices.Contains(closers, p.last.name):
		return text
	case !p.last.takesArgument():
		return text + argument
	case p.last.commented && p.usesPath:
		return text
	}
	return text[:p.last.end] + argument + text[p.last.end:]
}

// parsed is what is known of a text.
type parsed struct {
	last     command // an empty one if a command must follow, as after |
	usesPath bool    // no comment counts
}

// command is a command between two of ; & and |, or the end of a compound one.
type command struct {
	name       string // the word that names it, or a closer; "" if there is none
	end        int    // where its words and redirections end
	incomplete bool   // a redirection has no file yet
	closed     bool   // a separator or a comment follows
	separators int    // how many ; and & follow
	commented  bool   // a comment follows
}

// takesArgument reports whether a word can certainly be added at its end.
func (c command) takesArgument() bool {
	return c.name != "" && !slices.Contains(openers, c.name) && !c.incomplete && c.separators < 2
}

// parse parses a text, and reports whether the result is certain.
func parse(text string) (p parsed, certain bool) {
	for s := (scanner{text: text}); ; {
		switch t := s.next(); t.kind {
		case doubt:
			return p, false
		case ending:
			return p, true
		case joint:
			p.last = command{}
		case separator:
			p.last.closed = true
			p.last.separators++
		case newline:
			p.last.closed = true
		case comment:
			p.last.closed, p.last.commented = true, true
		default:
			p.last.add(t)
			p.last.end = s.at
			p.usesPath = p.usesPath || usesPath.MatchString(quoted.ReplaceAllString(t.text, "$1"))
		}
	}
}

// add adds a word, a redirection or a closing parenthesis. It begins another command if
// this one is closed.
func (c *command) add(t token) {
	if c.closed || t.kind == closing {
		*c = command{}
	}
	if c.name == "" && !c.incomplete && t.kind != redirection && t.text != "!" && !assignment.MatchString(t.text) {
		c.name = strings.ReplaceAll(t.text, "\\\n", "")
	}
	c.incomplete = t.kind == redirection
}
