package inventory

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"runbook/engine"
)

// commandTime is how long a program that prints an inventory may take where
// nothing else is said.
const commandTime = time.Minute

// lastWords is how much of a program's stderr an error shows, in bytes.
const lastWords = 2000

// output runs a program that prints an inventory, in the folder dir. It gets no
// input, and is ended with all that it has started when it takes or prints too much.
func output(ctx context.Context, argv []string, dir string, patience time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, words := &bounded{max: maxSize, full: cancel}, &tail{}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, words
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var status *exec.ExitError
	e := &engine.Error{Code: engine.Invalid, Err: err}
	name := strings.Join(argv, " ")
	switch {
	case out.over:
		e.Cause = fmt.Sprintf("%s prints more than %d MiB", name, maxSize>>20)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Cause = fmt.Sprintf("%s had printed no whole inventory after %v", name, patience)
		e.Hint = "an inventory file with command: and timeout: gives it longer"
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrWaitDelay):
		e.Cause = name + " has ended, and something that it started keeps its output open"
	case errors.As(err, &status):
		e.Cause = name + " has ended with " + status.Error()
	case err != nil:
		e.Cause = fmt.Sprintf("%s cannot be run: %v", name, err)
	default:
		return out.text, nil
	}
	if said := strings.TrimSpace(string(words.text)); said != "" {
		e.Cause += "; it said:\n" + said
	}
	return nil, e
}

// bounded keeps what is written up to max bytes, and calls full at more.
type bounded struct {
	text []byte
	max  int
	over bool
	full func()
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || len(b.text)+len(p) > b.max; b.over {
		b.full()
		return len(p), nil
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// tail keeps the last of what is written.
type tail struct{ text []byte }

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = append([]byte(nil), t.text[max(0, len(t.text)-lastWords):]...)
	return len(p), nil
}
