package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file keeps passwords out of plans and journals, which hold a runbook's parameters, and its text.

// noPasswords is an error where a parameter has a password in it.
func noPasswords(params map[string]string) error {
	for name, value := range params {
		if resource.HasPassword(value) {
			return hasPassword("parameter " + name)
		}
	}
	return nil
}

var (
	literal = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'`) // a text of one line, and what it says
	dsnLike = regexp.MustCompile(`(?i)^\s*([a-z_]+\s*=|[a-z]+://)`)
)

// noPasswordsIn is an error where a text in src is a DSN with a password in it.
func noPasswordsIn(src engine.Source) error {
	for _, name := range slices.Sorted(maps.Keys(src.Files)) {
		for i, line := range strings.Split(src.Files[name], "\n") {
			for _, found := range literal.FindAllStringSubmatch(line, -1) {
				if says := found[1] + found[2]; dsnLike.MatchString(says) && resource.HasPassword(says) {
					return hasPassword(fmt.Sprintf("%s:%d: the runbook", name, i+1))
				}
			}
		}
	}
	return nil
}

func hasPassword(what string) error {
	return &engine.Error{
		Code: engine.Invalid, Cause: what + " has a password in it, which plans and journals would keep",
		Hint: "leave it out; of a Postgres it belongs in ~/.pgpass, or in a service of ~/.pg_service.conf",
	}
}
