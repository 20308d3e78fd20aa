package manpage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// prose returns a description as Markdown, and apart the examples that have a paragraph of
// their own, which begins with "Example", and what is said of exit codes.
func prose(description string) (text, examples, exitCodes string) {
	var body, apart strings.Builder
	for paragraph := range strings.SplitSeq(unindent(description), "\n\n") {
		codes, isCodes := strings.CutPrefix(paragraph, "Exit codes: ")
		example, isExample := strings.CutPrefix(paragraph, "Example:\n")
		switch {
		case isCodes:
			exitCodes = sentence(mark(strings.Join(strings.Fields(codes), " ")))
		case isExample:
			apart.WriteString(strings.TrimLeft(paragraphText(example), "\n"))
		default:
			body.WriteString(paragraphText(paragraph))
		}
	}
	return body.String(), apart.String(), exitCodes
}

// unindent returns a description without the white space that its lines begin with, which
// is that of the line with the least of it. The first line has none.
func unindent(description string) string {
	lines := strings.Split(description, "\n")
	least := -1
	for _, line := range lines[min(1, len(lines)):] {
		if text := strings.TrimLeft(line, " "); text != "" && (least < 0 || len(line)-len(text) < least) {
			least = len(line) - len(text)
		}
	}
	for i := range lines[1:] {
		lines[i+1] = lines[i+1][min(max(least, 0), len(lines[i+1])):]
	}
	return strings.Join(lines, "\n")
}

// paragraphText returns a paragraph as Markdown. Its lines that are indented are an example.
func paragraphText(paragraph string) string {
	var b strings.Builder
	example := false
	for line := range strings.SplitSeq(paragraph, "\n") {
		isExample := strings.HasPrefix(line, " ")
		switch {
		case isExample != example && isExample:
			b.WriteString("\n```\n")
		case isExample != example:
			b.WriteString("```\n\n")
		}
		if example = isExample; example {
			b.WriteString(strings.TrimSpace(line) + "\n")
		} else {
			b.WriteString(mark(line) + "\n")
		}
	}
	if example {
		b.WriteString("```\n")
	}
	return b.String() + "\n"
}

// synopsis returns the lines of a usage text, each a line of the page.
func synopsis(usageText string) string {
	var lines []string
	for line := range strings.Lines(usageText) {
		lines = append(lines, synopsisOf(strings.TrimSpace(line)))
	}
	return strings.Join(lines, "  \n") + "\n"
}

// word is a word of a synopsis: an option, a placeholder, or another one.
var word = regexp.MustCompile(`--?[A-Za-z?][A-Za-z0-9-]*|[A-Z][A-Z0-9_]*(\.[a-z]+)?|[a-z][a-z0-9-]*`)

// synopsisOf returns one line of a usage text, or the names of an option: what is written as
// it is in bold, and placeholders in italics.
func synopsisOf(line string) string {
	var b strings.Builder
	end := 0
	for _, at := range word.FindAllStringIndex(line, -1) {
		b.WriteString(escape(line[end:at[0]]))
		end = at[1]
		mark, s := "**", line[at[0]:end]
		if s == "options" || s == "value" || isPlaceholder(s) {
			mark = "*"
		}
		b.WriteString(mark + escape(s) + mark)
	}
	return b.String() + escape(line[end:])
}

func isPlaceholder(word string) bool { return word[0] >= 'A' && word[0] <= 'Z' }

// placeholders returns the words that stand for values in the names of an option.
func placeholders(label string) (all []string) {
	for _, s := range word.FindAllString(label, -1) {
		if isPlaceholder(s) && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// option is an option in a text.
var option = regexp.MustCompile(`(^|[ (])(--?[a-z][a-z0-9-]*)`)

// mark returns a text as Markdown: options in bold, and placeholders in italics.
func mark(text string, placeholders ...string) string {
	text = option.ReplaceAllString(escape(text), "$1**$2**")
	for _, p := range placeholders {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(escape(p))+`\b`).ReplaceAllString(text, "*"+escape(p)+"*")
	}
	return text
}

// special are the characters that Markdown has a use for.
var special = regexp.MustCompile("[\\\\`*_<>\\[\\]&|~#]")

// escape returns a text in which Markdown finds nothing.
func escape(text string) string { return special.ReplaceAllString(text, `\$0`) }

// sentence returns a text, which is Markdown, with a capital and a full stop.
func sentence(text string) string {
	text = strings.TrimSuffix(text, ".")
	i := strings.IndexAny(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ*-")
	if i == 0 && text[0] >= 'a' && text[0] <= 'z' {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	return fmt.Sprintf("%s.", text)
}
