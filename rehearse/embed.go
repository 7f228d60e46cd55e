package rehearse

import "embed"

// Source is this package's own text: the documentation of what a test can ask is its reference.
//
//go:embed *.go
var Source embed.FS
