package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// kind is a licence that this project may link.
type kind struct {
	name  string
	marks []string // texts that it has, in one line
	not   string   // a text that it has not
	// common is the file of Debian that has it, if there is one.
	common string
}

var kinds = []kind{
	{name: "Apache-2.0", marks: []string{"Apache License", "Version 2.0, January 2004"}, common: "Apache-2.0"},
	{name: "MPL-2.0", marks: []string{"Mozilla Public License Version 2.0"}, common: "MPL-2.0"},
	{name: "CC0-1.0", marks: []string{"CC0 1.0 Universal"}, common: "CC0-1.0"},
	{name: "Expat", marks: []string{"Permission is hereby granted, free of charge, to any person obtaining a copy"}},
	{name: "ISC", marks: []string{"Permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{name: "BSD-3-Clause", marks: []string{"Redistribution and use in source and binary forms", "endorse or promote products"}},
	{name: "BSD-2-Clause", marks: []string{"Redistribution and use in source and binary forms"}, not: "endorse or promote products"},
}

// texts are the licences that a copyright file names.
type texts struct {
	names []string          // in their order
	by    map[string]string // the name of each text, without what is said of copyright
	full  map[string]string // the text of each name
}

func newTexts() *texts {
	t := &texts{by: make(map[string]string), full: make(map[string]string)}
	t.put("Apache-2.0", inCommon("Apache-2.0"))
	return t
}

func inCommon(file string) string {
	return "On Debian systems, the text of this licence is in\n/usr/share/common-licenses/" + file + "."
}

// add adds the licence of a module, and returns its name. One that is not known is an error:
// whether it may be linked is for people to say.
func (t *texts) add(text string) (string, error) {
	found := kindsOf(text)
	if len(found) == 0 {
		return "", errors.New("none that is known; if it may be linked, add it to the kinds in licences.go")
	}
	if common := found[0].common; len(found) == 1 && common != "" {
		t.put(found[0].name, inCommon(common))
		return found[0].name, nil
	}
	text = apache.ReplaceAllString(text, "\n"+inCommon("Apache-2.0")+"\n")
	body := strings.Join(strings.Fields(preamble.ReplaceAllString(holder.ReplaceAllString(text, ""), "")), " ")
	if name := t.by[body]; name != "" {
		return name, nil
	}
	var names []string
	for _, k := range found {
		names = append(names, k.name)
	}
	name := strings.Join(names, "-and-")
	for first, n := name, 2; t.full[name] != ""; n++ {
		name = fmt.Sprintf("%s~%d", first, n)
	}
	t.by[body] = name
	t.put(name, text)
	return name, nil
}

var (
	// apache is the text of the Apache License, which Debian has already.
	apache = regexp.MustCompile(`(?s)\s*Apache License\s+Version 2\.0, January 2004.*?accepting any such warranty or additional liability\.(?:\s+END OF TERMS AND CONDITIONS)?(?:\s+APPENDIX.*?limitations under the License\.)?`)
	// preamble is what some copies of a licence begin with, and others not.
	preamble = regexp.MustCompile(`(?i)the mit license \(mit\)|mit license|all rights reserved\.?`)
)

func (t *texts) put(name, text string) {
	if !slices.Contains(t.names, name) {
		t.names = append(t.names, name)
		t.full[name] = text
	}
}

// kindsOf returns the licences that a text has.
func kindsOf(text string) (found []kind) {
	line := strings.Join(strings.Fields(text), " ")
	for _, k := range kinds {
		has := !slices.ContainsFunc(k.marks, func(mark string) bool { return !strings.Contains(line, mark) })
		if has && (k.not == "" || !strings.Contains(line, k.not)) {
			found = append(found, k)
		}
	}
	return found
}

// String returns the paragraphs with the texts.
func (t *texts) String() string {
	var b strings.Builder
	for _, name := range t.names {
		b.WriteString("\nLicense: " + name + indented(t.full[name]))
	}
	return b.String()
}
