package script

import "embed"

// Source is the files that have the functions of the language. The comment of one that says
// "implements CALL: …" is its reference.
//
//go:embed builtins.go header.go server.go
var Source embed.FS
