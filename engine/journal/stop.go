package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"runbook/engine"
)

// This file is how another process of the same user tells a run to end, and watches it: who drives one
// listens on a socket beside the file that it holds. A line is said, and a line is answered, or all that happens. A socket that a
// killed run has left is known by the file, which nobody holds.

const (
	socketSuffix = ".stop"
	sayStop      = "stop" // after the changes in flight
	sayNow       = "now"  // and put back what is in hand
	sayWatch     = "watch"
)

// answerWithin is how long a run may take to answer; it takes some milliseconds.
const answerWithin = 5 * time.Second

// Listener is what a run does for other processes.
type Listener struct {
	// Stop is called when one tells it to stop; now: at once. What it returns, a line, is what that process is told.
	Stop func(now bool) string
	// Watch writes all that happens to w until that fails, or the run is over.
	Watch func(w io.Writer)
}

// Listen listens for the run id, which this process holds. end ends that, when all who watch
// have heard the end of it, or do not listen.
func (j *Journal) Listen(id string, l Listener) (end func(), err error) {
	path := j.holdPath(id) + socketSuffix
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was killed
		return nil, failure(j.path, err)
	}
	name, done, err := socketName(path)
	if err != nil {
		return nil, failure(j.path, err)
	}
	defer done()
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, failure(j.path, err)
	}
	socket.SetUnlinkOnClose(false) // which would go by the short name
	if err := os.Chmod(path, 0o600); err != nil {
		socket.Close() //nolint:errcheck // nobody has connected
		return nil, failure(j.path, err)
	}
	var watching sync.WaitGroup
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := socket.Accept()
			if err != nil {
				return
			}
			watching.Add(1)
			go func() {
				defer watching.Done()
				l.answer(c)
			}()
		}
	}()
	return func() {
		os.Remove(path) //nolint:errcheck // one that is left is nobody's
		socket.Close()  //nolint:errcheck // who waits for an answer gets none: the run has ended
		<-accepted
		watching.Wait()
	}, nil
}

func (l Listener) answer(c net.Conn) {
	defer c.Close()                             //nolint:errcheck // all is said
	c.SetDeadline(time.Now().Add(answerWithin)) //nolint:errcheck // a socket has deadlines
	said, err := bufio.NewReader(c).ReadString('\n')
	switch strings.TrimSpace(said) {
	case sayStop, sayNow:
		if err == nil {
			fmt.Fprintln(c, l.Stop(strings.TrimSpace(said) == sayNow)) //nolint:errcheck // it stops, whether or not somebody still listens
		}
	case sayWatch:
		c.SetDeadline(time.Time{}) //nolint:errcheck // as above
		l.Watch(patient{c})
	}
}

// patient is a connection to who may take a while to read, but not for ever.
type patient struct{ net.Conn }

func (p patient) Write(b []byte) (int, error) {
	p.SetWriteDeadline(time.Now().Add(answerWithin)) //nolint:errcheck // a socket has deadlines
	return p.Conn.Write(b)
}

// Watch returns what happens in the run id, as its Listener writes it, from the beginning, or fs.ErrNotExist
// where no process drives it.
func (j *Journal) Watch(ctx context.Context, id string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for {
		if !j.Held(id) {
			return nil, fs.ErrNotExist
		}
		c, err := j.say(ctx, id, sayWatch)
		if err == nil {
			c.SetDeadline(time.Time{}) //nolint:errcheck // a socket has deadlines
			return c, nil
		}
		select { // it is just about to listen, or to end
		case <-ctx.Done():
			return nil, silent(id, j.holdPath(id), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// silent is the error of a run that does not listen.
func silent(id, path string, err error) error {
	return &engine.Error{
		Code: engine.Internal, Cause: fmt.Sprintf("run %s has not answered within %s: %v", id, answerWithin, err),
		Hint: "its process stands still, or cannot listen: see which one has the file " + path + " open, with fuser",
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
			return "", silent(id, j.holdPath(id), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tell tells the run id to stop, or has not said it, and returns the line that it answers.
func (j *Journal) tell(ctx context.Context, id string, now bool) (says string, said bool, err error) {
	what := sayStop
	if now {
		what = sayNow
	}
	c, err := j.say(ctx, id, what)
	if err != nil {
		return "", c != nil, err
	}
	defer c.Close() //nolint:errcheck // all is said
	says, err = bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(says), true, err
}

// say says one line to the run id. Where that fails, what is returned is nil if nothing was said.
func (j *Journal) say(ctx context.Context, id, what string) (net.Conn, error) {
	name, done, err := socketName(j.holdPath(id) + socketSuffix)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		c.SetDeadline(end) //nolint:errcheck // a socket has deadlines
	}
	if _, err := fmt.Fprintln(c, what); err != nil {
		c.Close() //nolint:errcheck // it is of no use
		return c, err
	}
	return c, nil
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
