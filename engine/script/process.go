package script

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"runbook/engine"
)

// This file is the evaluator as a process: how it is started, written to
// without waiting for it, and what its death means.

// EvaluatorArg is the first argument of a process that is to be an evaluator.
// The other is how many bytes of memory it may have.
const EvaluatorArg = "evaluator"

// IsEvaluator reports whether this process was started to be an evaluator. Its
// main function is then [Main].
func IsEvaluator() bool {
	return (len(os.Args) == 2 || len(os.Args) == 3) && os.Args[1] == EvaluatorArg
}

type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	stderr *head

	mu    sync.Mutex
	queue []byte        // frames to be written
	wake  chan struct{} // holds one: the queue is not empty
	gone  chan struct{} // closed when the process has ended
}

// spawn starts an evaluator by command, or this program if that is empty, with
// so many bytes of memory.
func spawn(command []string, memory int64) (*process, error) {
	if len(command) == 0 {
		self, err := selfCommand()
		if err != nil {
			return nil, err
		}
		command = []string{self, EvaluatorArg}
	}
	command = append(slices.Clone(command), strconv.FormatInt(memory, 10))
	path := command[0]
	if strings.ContainsRune(path, filepath.Separator) {
		abs, err := filepath.Abs(path) // its working directory is another
		if err != nil {
			return nil, err
		}
		path = abs
	}
	p := &process{
		cmd:    exec.Command(path, command[1:]...),
		stderr: &head{},
		wake:   make(chan struct{}, 1),
		gone:   make(chan struct{}),
	}
	p.cmd.Args[0] = "runbook"
	p.cmd.Env = []string{} // nil would hand down ours
	p.cmd.Dir = "/"
	p.cmd.Stderr = p.stderr
	p.cmd.WaitDelay = time.Second
	// Its own group: an interrupt from the terminal is for the controller to act on.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.write()
	return p, nil
}

// send queues f. It never waits for the evaluator. The queue is bounded by the
// runs there are, since each of them takes turns with the evaluator.
func (p *process) send(f frame) error {
	b, err := f.encode()
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.queue == nil {
		p.queue = b
	} else {
		p.queue = append(p.queue, b...)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// write writes what is queued until the process ends.
func (p *process) write() {
	defer p.in.Close()
	for {
		select {
		case <-p.gone:
			return
		case <-p.wake:
		}
		p.mu.Lock()
		b := p.queue
		p.queue = nil
		p.mu.Unlock()
		if _, err := p.in.Write(b); err != nil {
			return // it has ended, as its reader will find
		}
	}
}

func (p *process) kill() { p.cmd.Process.Kill() }

// reap waits for the process, whose output has been read to its end, and
// returns what it died of.
func (p *process) reap() death {
	p.cmd.Wait() //nolint:errcheck // its state says more
	close(p.gone)
	text := p.stderr.text()
	says := func(s string) bool { return strings.Contains(text, s) }
	return death{status: p.cmd.ProcessState.String(), says: firstLine(text), noMemory: slices.ContainsFunc(outOfMemory, says)}
}

// death is how an evaluator ended that nobody has killed.
type death struct {
	status   string // "exit status 2"
	says     string // the first line that it wrote to stderr
	noMemory bool
}

// outOfMemory is what Go's runtime says when the kernel gives it no memory. Its
// collector does not look whether it got some, and reads address 0; in code
// outside the runtime that would be a panic, not a signal.
var outOfMemory = []string{
	"out of memory", "cannot allocate memory", "errno=12", "failed to reserve", "failed to allocate", "newosproc", "pthread_create failed",
	"SIGSEGV: segmentation violation\nPC=",
}

// err explains d under the limits that there were. The words of Go's
// runtime are recognized, never shown: its traceback says nothing about the script.
func (d death) err(limits engine.Limits) *engine.Error {
	switch {
	case strings.Contains(d.says, "stack overflow"), strings.Contains(d.says, "stack exceeds"):
		return &engine.Error{Code: engine.LimitHit,
			Cause: "the script nests values or expressions too deeply",
			Hint:  lastSeen,
		}
	case d.noMemory:
		e := limits.Exceeded(engine.LimitMemory, "the script needs more memory")
		e.Hint = lastSeen + "; " + e.Hint
		return e
	case strings.Contains(d.says, "SIGXCPU"):
		return &engine.Error{Code: engine.LimitHit,
			Cause: fmt.Sprintf("the script has computed for %s", maxCPU*time.Second),
			Hint:  lastSeen,
		}
	case strings.Contains(d.status, "killed"):
		return &engine.Error{Code: engine.Internal,
			Cause: "the evaluator was killed by another process or by the kernel",
			Hint:  "the kernel does that where memory is short: see its log",
		}
	default:
		return &engine.Error{Code: engine.Internal,
			Cause: clean(strings.TrimSpace(fmt.Sprintf("the evaluator ended unexpectedly: %s %s", d.status, d.says))),
		}
	}
}

const lastSeen = "the position is where the script was last seen, so the cause is there or soon after"

// head keeps the beginning of what is written to it.
type head struct {
	mu sync.Mutex
	b  []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), maxText-len(h.b))]...)
	return len(p), nil
}

func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.b)
}

// firstLine is the line of text that says why a process ended: Go puts lines
// with "runtime: …" before the one that begins with "fatal error:".
func firstLine(text string) string {
	if i := strings.Index(text, "fatal error: "); i >= 0 {
		text = text[i:]
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}
