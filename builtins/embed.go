package builtins

import "embed"

// Source is this package's own text: the documentation of an operation and its fields is its reference.
//
//go:embed *.go
var Source embed.FS
