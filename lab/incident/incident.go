// Package incident replays the incident that runbook exists because of: a bash
// script that restarts interfaces in a loop, until the dead connections of the
// services have used up a Postgres server. Then it has runbook do the same.
//
// Nothing is simulated. The nodes are a [lab]: a kernel's own namespaces. The
// script is run by bash and reaches them by ssh, the server is Postgres, and
// runbook is the program itself, started as an operator would.
//
//	node-1 … node-6           node-7                  node-8
//	a service each:           Postgres, which lets    the operator's, where
//	10 connections            97 connections in       the script runs
//	      └──────── eth1 ───────────┘
//
// What is measured is on the kernel's and the server's side as far as it can
// be: connections are what the server says, restarts what the kernel of each
// node says, dead is a connection that the server has and no service.
package incident

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os/exec"
	"time"

	"runbook/engine"
	"runbook/lab"
)

// The scene.
const (
	nodes          = 6
	pool           = 10
	maxConnections = 100 // Postgres' own default
	route          = "10.20.0.7/32"
	gateway        = "10.98.0.1"
	// Somebody ends the script noticed after the first connection was refused; else after scriptFor.
	noticed   = 9 * time.Second
	scriptFor = 45 * time.Second
)

// habits are those of the services. A restart of eth1 by the script takes 2 s,
// so that a service gives its connections up before the link is back.
var habits = Habits{Pool: pool, Every: 250 * time.Millisecond, Timeout: time.Second, Retry: 500 * time.Millisecond}

// Capacity is how many connections the server has for services.
const Capacity = maxConnections - reserved

var (
	//go:embed add_host_route.sh
	script []byte
	//go:embed looping.star
	looping []byte
	//go:embed add_host_route.star
	correct []byte
)

// Config says how to replay the incident.
type Config struct {
	Program string    // the file of the program runbook, which is started as operators do
	Out     io.Writer // what happens is told here; it can be written to from everywhere at once, as a file can
}

// Report is what came of it.
type Report struct {
	Capacity int        `json:"capacity"` // how many connections the server has for services
	Pool     int        `json:"pool"`     // connections of each service
	Script   Act        `json:"script"`   // bash, with its bug
	Runbook  RunbookAct `json:"runbook"`
	Took     float64    `json:"took"` // by all of it, in seconds
}

// RunbookAct is the act in which runbook does it.
type RunbookAct struct {
	Act
	Looping Command `json:"looping"` // the runbook with the script's bug
	Correct Command `json:"correct"` // without
	Again   Command `json:"again"`   // the correct one a second time, as a loop around it would
}

// Command is one start of runbook.
type Command struct {
	Exit     int    `json:"exit"`
	Restarts int    `json:"restarts"` // of an eth1, while it ran
	Changed  bool   `json:"changed"`  // whether any node's addresses or routes were others afterwards
	Output   string `json:"-"`
}

// Probe says in one line why the incident cannot be replayed on this machine, or nil.
func Probe() error {
	if err := lab.Probe(); err != nil {
		return err
	}
	if _, err := postgresDir(debian); err != nil {
		return err
	}
	for _, p := range []string{"bash", "ssh", "ip", "setpriv", "install"} {
		if _, err := exec.LookPath(p); err != nil {
			return engine.Invalid.Errorf("no replay here: there is no %s in PATH", p)
		}
	}
	return nil
}

// Replay makes the nodes, the server and the services twice, and lets first the
// script and then runbook loose on them. When it returns, however it does, nothing of them is left.
func Replay(ctx context.Context, c Config) (*Report, error) {
	if err := Probe(); err != nil {
		return nil, err
	}
	began := time.Now()
	r := &Report{Capacity: Capacity, Pool: pool}
	var err error
	c.say("%d nodes, each with a service that keeps %d connections to one Postgres server.", nodes, pool)
	c.say("The server lets %d in: max_connections = %d, less %d kept for superusers.", Capacity, maxConnections, reserved)
	if r.Script, err = c.actOfScript(ctx); err == nil {
		r.Runbook, err = c.actOfRunbook(ctx)
	}
	switch {
	case ctx.Err() != nil: // what else went wrong comes of that
		return nil, engine.AsError(ctx.Err())
	case err != nil:
		return nil, engine.AsError(err)
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}

// say tells a line.
func (c Config) say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }
