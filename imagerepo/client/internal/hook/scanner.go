package hook

import (
	"regexp"
	"strings"
)

// kind is what a token is.
type kind int

const (
	ending      kind = iota
	word             // with its quotes
	redirection      // before the word that says where; >> is two
	separator        // after a command: ; and &, of which && is two
	newline          // after a command, too
	joint            // before a command: ( and |, of which || is two
	closing          // the end of a subshell
	comment
	doubt // what only a shell understands
)

type token struct {
	kind kind
	text string
}

// operators are the tokens that are no words. The first that fits counts.
var operators = []token{
	{doubt, "<<"}, {doubt, "<("}, {doubt, ">("}, // here-documents, and processes of bash
	{redirection, ">&"}, {redirection, ">|"}, {redirection, ">"}, {redirection, "<&"}, {redirection, "<"},
	{separator, ";"}, {separator, "&"}, {newline, "\n"}, {joint, "|"}, {joint, "("}, {closing, ")"},
}

const (
	// parameter matches an expansion that has no quotes, blanks or other expansions in it.
	parameter = `\$[A-Za-z0-9_@*#?$!-]|\$\{[^{}()<>;&|$'"\\\x60\s]*\}`
	// after are the characters of which one follows a word.
	after = " \t\n;&|<>()"
)

var (
	wordPattern  = regexp.MustCompile(`(?s)^(?:[^` + after + `'"\\$\x60]|\\.|'[^']*'|"(?:[^"\\$\x60]|\\.|` + parameter + `)*"|` + parameter + `)+`)
	blankPattern = regexp.MustCompile(`^(?:[ \t]|\\\n)+`)
	// numberPattern matches a number that is no word, but belongs to a redirection.
	numberPattern = regexp.MustCompile(`^[0-9]+[<>]`)
)

// scanner splits a shell command into tokens.
type scanner struct {
	text string
	at   int // where the next token begins, in the text
}

// next returns the next token.
func (s *scanner) next() token {
	s.at += len(blankPattern.FindString(s.text[s.at:]))
	rest := s.text[s.at:]
	switch {
	case rest == "":
		return token{kind: ending}
	case rest[0] == '#':
		line, _, _ := strings.Cut(rest, "\n")
		return s.take(comment, line)
	case numberPattern.MatchString(rest):
		s.at += strings.IndexAny(rest, "<>")
		rest = s.text[s.at:]
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op.text) {
			return s.take(op.kind, op.text)
		}
	}
	text := wordPattern.FindString(rest)
	if next := rest[len(text):]; next != "" && !strings.Contains(after, next[:1]) {
		return token{kind: doubt}
	}
	return s.take(word, text)
}

func (s *scanner) take(k kind, text string) token {
	s.at += len(text)
	return token{k, text}
}
