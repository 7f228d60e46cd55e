package journal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"runbook/engine"
)

// roles are what the test binary does when a test has started it again.
var roles = map[string]func(dir string) error{
	"appender": appendForEver,
	"counter":  appendSome,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("JOURNAL_ROLE")]; ok {
		if err := role(os.Getenv("JOURNAL_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// appendForEver appends from several goroutines and says on stdout, run and
// text, what has been acknowledged.
func appendForEver(dir string) error {
	j, err := Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	run, err := j.Begin(ctx, record)
	if err != nil {
		return err
	}
	fmt.Println("begun", run)
	failed := make(chan error)
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				text := fmt.Sprintf("%d-%d", w, i)
				if err := j.Append(ctx, engine.Entry{Run: run, Node: "web-1", Kind: "intent", Text: text, Edit: edit}); err != nil {
					failed <- err
					return
				}
				fmt.Println(text) // one write: a line is there whole or not at all
			}
		}()
	}
	return <-failed
}

// appendSome appends JOURNAL_COUNT entries to the run JOURNAL_RUN and to one of its own.
func appendSome(dir string) error {
	count, err := strconv.Atoi(os.Getenv("JOURNAL_COUNT"))
	if err != nil {
		return err
	}
	j, err := Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	own, err := j.Begin(ctx, record)
	if err != nil {
		return err
	}
	fmt.Println(own)
	for range count {
		for _, run := range []string{os.Getenv("JOURNAL_RUN"), own} {
			if err := j.Append(ctx, engine.Entry{Run: run, Kind: "intent"}); err != nil {
				return err
			}
		}
	}
	return j.Close()
}

// lines reads from r until it ends.
func lines(r *bufio.Scanner, each func(string)) {
	for r.Scan() {
		each(r.Text())
	}
}

var started = time.Date(2026, 11, 23, 20, 44, 55, 123456789, time.UTC)
