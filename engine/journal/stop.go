package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"runbook/engine"
)

// This file is how another process of the same user tells a run to end: who drives one
// listens on a socket beside the file that it holds. A line is said, and a line is answered. A socket that a
// killed run has left is known by the file, which nobody holds.

const (
	socketSuffix = ".stop"
	sayStop      = "stop" // after the changes in flight
	sayNow       = "now"  // and put back what is in hand
)

// answerWithin is how long a run may take to answer; it takes some milliseconds.
const answerWithin = 5 * time.Second

// Listen calls stop whenever another process tells the run id, which this one holds, to
// stop; now: at once. What stop returns, a line, is what that process is told. end ends that.
func (j *Journal) Listen(id string, stop func(now bool) string) (end func(), err error) {
	path := j.holdPath(id) + socketSuffix
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
		return nil, failure(j.path, err)
	}
	name, done, err := socketName(path)
	if err != nil {
		return nil, failure(j.path, err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, failure(j.path, err)
	}
	l.SetUnlinkOnClose(false) // which would go by the short name
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close() //nolint:errcheck // nobody has connected
		return nil, failure(j.path, err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, stop)
		}
	}()
	return func() {
		os.Remove(path) //nolint:errcheck // one that is left is nobody's
		l.Close()       //nolint:errcheck // who waits for an answer gets none: the run has ended
	}, nil
}

func answer(c net.Conn, stop func(now bool) string) {
	defer c.Close()                             //nolint:errcheck // all is said
	c.SetDeadline(time.Now().Add(answerWithin)) //nolint:errcheck // a socket has deadlines
	said, err := bufio.NewReader(c).ReadString('\n')
	switch strings.TrimSpace(said) {
	case sayStop, sayNow:
		if err == nil {
			fmt.Fprintln(c, stop(strings.TrimSpace(said) == sayNow)) //nolint:errcheck // it stops, whether or not somebody still listens
		}
	}
}

// Stop tells the run id to stop; now: at once. It returns what the run says to that, or fs.ErrNotExist
// where no process drives it.
func (j *Journal) Stop(ctx context.Context, id string, now bool) (says string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	said := false // twice would be another order
	for {
		if !j.Held(id) {
			return "", fs.ErrNotExist
		}
		if !said {
			if says, said, err = j.tell(ctx, id, now); err == nil {
				return says, nil
			}
		}
		select { // it is just about to listen, or to end
		case <-ctx.Done():
			return "", &engine.Error{
				Code: engine.Internal, Cause: fmt.Sprintf("run %s has not answered within %s: %v", id, answerWithin, err),
				Hint: "its process stands still, or cannot listen: see which one has the file " + j.holdPath(id) + " open, with fuser",
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tell says one line to the run id, or has not said it, and returns the line that it answers.
func (j *Journal) tell(ctx context.Context, id string, now bool) (says string, said bool, err error) {
	name, done, err := socketName(j.holdPath(id) + socketSuffix)
	if err != nil {
		return "", false, err
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	if err != nil {
		return "", false, err
	}
	defer c.Close() //nolint:errcheck // all is said
	if end, ok := ctx.Deadline(); ok {
		c.SetDeadline(end) //nolint:errcheck // a socket has deadlines
	}
	say := sayStop
	if now {
		say = sayNow
	}
	if _, err := fmt.Fprintln(c, say); err != nil {
		return "", true, err
	}
	says, err = bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(says), true, err
}

// Going are the runs that processes drive, oldest first.
func (j *Journal) Going() ([]string, error) {
	files, err := os.ReadDir(filepath.Join(filepath.Dir(j.path), holdDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failure(j.path, err)
	}
	var out []string
	for _, f := range files { // ids begin with their time
		if id := f.Name(); !strings.HasSuffix(id, socketSuffix) && j.Held(id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// maxSocketName is the longest name of a socket that every system takes, in bytes.
const maxSocketName = 103

// socketName is path, or a shorter name of the same file, as sockets need one. It
// holds until done is called.
func socketName(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketName {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}
