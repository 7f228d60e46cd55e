package resource

import "embed"

// Source is the files that have what scripts are given of a node: the comments are its reference.
//
//go:embed addr.go link.go neigh.go nexthop.go route.go rule.go
var Source embed.FS
