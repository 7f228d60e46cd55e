//go:build linux

package guard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// readyFD is where a guardian says that it watches: one byte.
const readyFD = 3

// The environment of a guardian says what it was started for.
const (
	readyVar   = "RUNBOOK_GUARDIAN_READY"   // say on readyFD when it watches
	relieveVar = "RUNBOOK_GUARDIAN_RELIEVE" // wait until the one that watches leaves
)

// startWithin is how long a guardian may take to watch; it takes some milliseconds.
const startWithin = 10 * time.Second

// How often a guardian looks whether the changes were confirmed or got a new
// deadline, and whether an agent in the middle of a restart is still there.
const (
	lookEvery  = 200 * time.Millisecond
	aliveEvery = 20 * time.Millisecond
)

// patience is how long past the deadline the agent may go on with what it does:
// one change takes at most so long. Then it hangs, and is killed.
const patience = 10 * time.Second

// start starts a guardian for dir: this program, in a session of its own, with
// nothing that leads back to whoever started it.
func start(dir string) error {
	ready, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close() //nolint:errcheck // a pipe
	self := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{os.Args[0], "guard", dir}, Dir: "/", Env: []string{readyVar + "=1"},
		ExtraFiles: []*os.File{said}, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = self.Start()
	said.Close() //nolint:errcheck // a pipe
	if err != nil {
		return fmt.Errorf("the guardian cannot be started: %w", err)
	}
	go self.Wait() //nolint:errcheck // so that it leaves no zombie; it goes on by itself
	if err := ready.SetReadDeadline(time.Now().Add(startWithin)); err != nil {
		return err
	}
	if n, err := ready.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("the guardian does not watch: %w", err)
	}
	return nil
}

// Watch is the guardian of dir: it puts k back when that is due, and returns
// once nothing waits any more, or another guardian watches. It takes no signal
// for an order to leave but the one that nobody can ignore.
func Watch(ctx context.Context, k Kernel, dir string) error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	n := Over(k, dir)
	watch, err := n.watch(ctx)
	if err != nil || watch == nil {
		return err
	}
	defer watch.Close()                                          //nolint:errcheck // a lock
	os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) //nolint:errcheck // whoever may, is not killed for memory
	if os.Getenv(readyVar) != "" {
		ready := os.NewFile(readyFD, "ready")
		ready.Write([]byte{1}) //nolint:errcheck // who started it may be gone
		ready.Close()          //nolint:errcheck // a pipe
	}
	relieved := n.outlast(ctx)
	leave := func() {
		if underSystemd() {
			notAtBoot()
		}
		watch.Close() //nolint:errcheck // a lock
	}
	for {
		wait, err := n.look(ctx, leave)
		if wait == 0 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-relieved:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lookWithin is how long one that leaves may still have its lock.
const lookWithin = 300 * time.Millisecond

// guarded reports whether a guardian watches. One that was killed still has its lock for as
// long as it takes to die, and is waited for: on a busy machine that can be longer than an agent takes to start.
func (f folder) guarded() (bool, error) {
	for end := time.Now().Add(startWithin); ; time.Sleep(10 * time.Millisecond) {
		is, err := f.locked(watchName)
		if err != nil || !is || !dying(f.holder(watchName)) || time.Now().After(end) {
			return is, err
		}
	}
}

// watch takes the place of the guardian; nil: another one has it.
func (n *Node) watch(ctx context.Context) (*os.File, error) {
	within, every := lookWithin, 10*time.Millisecond
	if os.Getenv(relieveVar) != "" {
		within, every = relieveWithin, aliveEvery
	}
	for end := time.Now().Add(within); ; time.Sleep(every) {
		watch, err := n.folder.tryLock(watchName)
		if err != nil || watch != nil || ctx.Err() != nil {
			return watch, err
		}
		if is, err := n.folder.guarded(); err != nil || is && time.Now().After(end) { // else somebody only looks whether there is one
			return nil, err
		}
	}
}

// outlast makes sure, where systemd is, that a guardian outlasts the session
// and the machine. The channel that it returns is closed when another one takes over.
func (n *Node) outlast(ctx context.Context) <-chan struct{} {
	relieved := make(chan struct{})
	if !underSystemd() {
		return relieved
	}
	atBoot(n.folder.dir) //nolint:errcheck // see there
	if os.Getenv(relieveVar) == "" {
		go func() {
			if relieve(ctx, n.folder.dir) == nil { // otherwise this one stays
				close(relieved)
			}
		}()
	}
	return relieved
}

// look does what is due and returns how long nothing will be; 0: nothing waits
// any more, or the folder is gone. In that case it has called leave while no
// agent could arm anything, so that the next one that does starts another guardian.
func (n *Node) look(ctx context.Context, leave func()) (wait time.Duration, err error) {
	r, _ := n.folder.pending()
	if r != nil && r.left(n.folder.now()) > 0 && !r.cut() {
		return min(lookEvery, r.left(n.folder.now())), nil
	}
	lock, err := n.folder.tryLock(lockName)
	switch {
	case err != nil && r == nil:
		return 0, err
	case lock == nil:
		if r != nil && r.left(n.folder.now()) < -patience {
			n.folder.kill(lockName)
		}
		return aliveEvery, nil
	}
	defer lock.Close() //nolint:errcheck // a lock
	if r, err = n.folder.pending(); r == nil {
		leave()
		return 0, err
	}
	return aliveEvery, n.act(ctx, r)
}

// act does what is due of r. The caller holds the lock, so that no agent is at work.
func (n *Node) act(ctx context.Context, r *record) error {
	t := n.folder.now()
	switch {
	case r.Armed.Boot != t.Boot:
		return n.putBack(ctx, r, "the machine was started again before it was confirmed")
	case r.left(t) <= 0:
		return n.putBack(ctx, r, fmt.Sprintf("it was not confirmed within %s", r.Within))
	case !r.cut():
		return nil
	}
	if err := n.finish(ctx, r); err != nil { // it is tried again until the deadline
		return err
	}
	if !r.waits() {
		return n.putBack(ctx, r, "the agent was gone before the restart was over")
	}
	return n.folder.put(r)
}

// Recover does what a guardian should have done that is no longer there: it was
// killed, or the machine started again. An agent begins with it.
func (n *Node) Recover(ctx context.Context) error {
	if r, _ := n.folder.pending(); r == nil { // nearly always: nothing is made or locked
		return nil
	}
	if is, err := n.folder.guarded(); err != nil || is { // there is a guardian, and perhaps an agent at work
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, putBackWithin)
	defer cancel()
	lock, err := n.folder.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // a lock
	r, err := n.folder.pending()
	if r == nil {
		return err
	}
	if err := n.act(ctx, r); err != nil || r.Ended != nil {
		return err
	}
	return n.watched()
}
