package incident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"runbook/engine"
)

// This file is the acts: what is done to the nodes while the services work.

// calm is how long the services are watched before anything is done, and afterwards.
const calm = 1500 * time.Millisecond

// act opens a stage and its services, and has play do something to the nodes.
func (c Config) act(ctx context.Context, play func(*stage, *record) error) (a Act, err error) {
	st, err := openStage(ctx, nodes, maxConnections)
	if err != nil {
		return Act{}, err
	}
	defer func() {
		if e := st.close(); err == nil {
			err = e
		}
	}()
	r := newRecord(st.names())
	if err := st.serve(st.names(), habits, r); err != nil {
		return Act{}, err
	}
	if err := st.filled(ctx, nodes*pool); err != nil {
		return Act{}, err
	}
	st.observe(func(all []backend) { r.backends(len(all), st.sockets.dead(all)) })
	r.begin()
	if err := st.pause(ctx, calm); err != nil {
		return Act{}, err
	}
	if err := play(st, r); err != nil {
		return Act{}, err
	}
	return r.end(), st.pause(ctx, 0)
}

// names are the nodes with services.
func (st *stage) names() (names []string) {
	for _, n := range st.status.Nodes[:nodes] {
		names = append(names, n.Name)
	}
	return names
}

// actOfScript runs the script until it is ended from outside, as it does not end by itself.
func (c Config) actOfScript(ctx context.Context) (Act, error) {
	c.say("\nThe script: it adds a route to each node, restarts eth1, and takes a node once\n"+
		"more that has no route then. None ever has, for the restart drops it.\n"+
		"%s after the server is full, somebody ends the script.\n", noticed)
	return c.act(ctx, func(st *stage, r *record) error {
		const file = "/root/add_host_route.sh"
		if err := put(ctx, st.lab, st.operator, file, "700", script); err != nil {
			return err
		}
		r.point(c.at(r, "bash add_host_route.sh %s %s %s", route, gateway, strings.Join(st.names(), " ")), "script")
		limited, cancel := context.WithTimeout(ctx, scriptFor)
		defer cancel()
		go func() {
			select {
			case <-limited.Done():
			case <-r.full:
				r.point(c.at(r, "the server is full: the first connection is refused"), "server full")
				time.AfterFunc(noticed, cancel)
			}
		}()
		exit, err := stream(limited, st.lab, st.operator, nil, c.quoted(), append([]string{"bash", file, route, gateway}, st.names()...)...)
		switch {
		case limited.Err() == nil && err == nil:
			return engine.Internal.Errorf("the script has ended by itself, with exit status %d: it was to loop", exit)
		case limited.Err() == nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		r.point(c.at(r, "the script is ended"), "ended")
		return nil
	})
}

// actOfRunbook has runbook refuse the loop, and then do what the script was meant to do.
func (c Config) actOfRunbook(ctx context.Context) (out RunbookAct, err error) {
	c.say("\nThe same change by runbook: first with the script's loop in it, then without,\nthen once more.\n")
	out.Act, err = c.act(ctx, func(st *stage, r *record) error {
		for _, step := range []struct {
			into  *Command
			file  string
			text  []byte
			label string
		}{
			{&out.Looping, "looping.star", looping, "loop"},
			{&out.Correct, "add_host_route.star", correct, "correct"},
			{&out.Again, "add_host_route.star", correct, "again"},
		} {
			if err := os.WriteFile(filepath.Join(st.home, step.file), step.text, 0o600); err != nil {
				return engine.Internal.Errorf("the runbook: %w", err)
			}
			var err error
			if *step.into, err = c.runbook(ctx, st, r, step.file, step.label); err != nil {
				return err
			}
			if err := st.pause(ctx, calm); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// runbook has the program run a runbook on the nodes with services, and compares them before and after.
func (c Config) runbook(ctx context.Context, st *stage, r *record, file, label string) (out Command, err error) {
	before, err := st.held(ctx)
	if err != nil {
		return out, err
	}
	restarts := r.restarts()
	names, params := fmt.Sprintf("node-[1:%d]", nodes), []string{"dst=" + route, "via=" + gateway}
	args := append([]string{"run", "-i", "lab", "-n", names, "--yes", file}, params...)
	began := c.at(r, "runbook run -i lab -n '%s' --yes %s %s", names, file, strings.Join(params, " "))
	if out, err = c.start(ctx, st.home, args); err != nil {
		return out, err
	}
	after, err := st.held(ctx)
	if err != nil {
		return out, err
	}
	out.Restarts, out.Changed = r.restarts()-restarts, before != after
	r.point(began, label+": "+out.ends())
	c.say("%9s exit code %d; interfaces were restarted %d times\n", "|", out.Exit, out.Restarts)
	return out, nil
}

// ends is how the command has ended, in a word.
func (c Command) ends() string {
	switch engine.Code(c.Exit) {
	case engine.OK:
		return "done"
	case engine.LimitHit:
		return "refused"
	}
	return fmt.Sprint("exit ", c.Exit)
}

// start starts runbook, with home as what it keeps its state in, and shows what it says.
func (c Config) start(ctx context.Context, home string, args []string) (out Command, err error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Program, args...)
	cmd.Args[0] = "runbook"
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+home, "NO_COLOR=1")
	w := io.MultiWriter(&said, c.quoted())
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is this process's to pass on, once
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	err = cmd.Run()
	var status *exec.ExitError
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if err != nil && !errors.As(err, &status) {
		return out, engine.Internal.Errorf("starting runbook: %w", err)
	}
	return Command{Exit: cmd.ProcessState.ExitCode(), Output: said.String()}, nil
}

// at tells what happens now in an act, and returns when that is.
func (c Config) at(r *record, format string, args ...any) float64 {
	now := r.now()
	c.say("%5.1f s  %s", now, fmt.Sprintf(format, args...))
	return now
}

// quoted shows what another program says.
func (c Config) quoted() io.Writer {
	return &lines{tell: func(l string) { c.say("%9s %s", "|", l) }}
}

// held is what the kernels of all nodes with services hold of addresses and routes.
func (st *stage) held(ctx context.Context) (string, error) {
	var all strings.Builder
	for _, name := range st.names() {
		for _, what := range []string{"address show", "route show table all", "-6 route show table all"} {
			text, err := output(ctx, st.lab, name, append([]string{"ip"}, strings.Fields(what)...)...)
			if err != nil {
				return "", err
			}
			all.WriteString(text)
		}
	}
	return all.String(), nil
}

// lines tells of each line that is written to it.
type lines struct {
	mu   sync.Mutex
	rest []byte
	tell func(string)
}

// Write implements [io.Writer].
func (w *lines) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		l, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		w.tell(string(l))
		w.rest = rest
	}
}
