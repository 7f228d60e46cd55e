// Package builtins holds the operations that runbooks can ask of a node, one
// file for each domain: route.go is node.route.….
//
// An operation is a struct whose fields are its arguments and whose
// documentation is its reference. It looks, or plans a change, on the
// controller, against whatever [engine.Reader] it is given: a model while
// predicting, the node itself in a live pass. It never sees which.
//
// To add one, write the struct in the file of its domain, enter it in
// [Operations] from that file's init, and add its cases to testdata under its name.
package builtins

import (
	"context"

	"runbook/engine"
	"runbook/engine/resource"
)

// Operations is the table of all operations.
var Operations = engine.Operations{}

// list returns the resources of type R that s selects, never nil.
func list[R resource.Resource](ctx context.Context, n engine.Reader, s resource.Selector) ([]R, error) {
	found, err := n.Read(ctx, resource.Query{s})
	if err != nil {
		return nil, err
	}
	return append([]R{}, resource.All[R](found)...), nil
}
