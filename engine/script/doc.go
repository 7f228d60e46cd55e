// Package script runs runbooks that are written in Starlark.
//
// A script is not trusted to end, or to be modest: Starlark's own limits (steps
// and cancellation) do not see what its built-in functions do. All of it, the
// parsing too, therefore happens in an evaluator: the same program, executed
// again, confined by the kernel to memory, computing and two pipes, and
// killed by this side, the controller, when it runs too long without asking.
//
//	controller                              evaluator ([Main])
//	[Start]      -- start, source texts -->  parse, resolve, run the top level
//	             <-- done: the header -----
//	[Program.Run] -- run: a node --------->  run(node, p), a thread per node
//	host.Do      <-- call: name, args ----
//	             -- answer: value, error ->
//	             <-- done ----------------
//
// The evaluator can only ask, one question at a time per run, and what it says
// is checked before it is believed. It ends with the controller, and the
// controller is never blocked by it.
//
// The controller's side is program.go, conversation.go, turns.go, process.go,
// source.go and params.go; the evaluator's is evaluator.go, confine.go and all
// that mentions Starlark. They share frame.go.
package script
