package ssh

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// This file keeps many nodes behind one door from being turned away there: an
// sshd drops connections at random once ten have not shown yet who they are
// (MaxStartups 10:30:100 where nobody has set it), and what runs `ssh -W` on a bastion meets the same.

// handshakes is how many connections shake hands with one server at a time. It is
// less than ten, for a server learns a little later than we do that one has ended; and one that
// was turned away all the same tries again, so many times in all.
const (
	handshakes     = 6
	tries          = 6
	turnedAwayWait = 250 * time.Millisecond // as often as it was tried
)

// turnedAway reports whether err, of a handshake, is that of a server that closed
// the connection without a word.
func turnedAway(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

// doors are the servers that connections are being made to.
type doors struct {
	mu    sync.Mutex
	doors map[string]*door
}

type door struct {
	slots chan struct{}
	users int // those that are in it, or wait; guarded by mu
}

var entries = doors{doors: map[string]*door{}}

// enter waits until a further connection may be made to the server called name.
// leave is to be called once hands are shaken.
func (d *doors) enter(ctx context.Context, name string) (leave func(), err error) {
	d.mu.Lock()
	e := d.doors[name]
	if e == nil {
		e = &door{slots: make(chan struct{}, handshakes)}
		d.doors[name] = e
	}
	e.users++
	d.mu.Unlock()
	out := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(d.doors, name)
		}
	}
	select {
	case e.slots <- struct{}{}:
		return func() { <-e.slots; out() }, nil
	case <-ctx.Done():
		out()
		return nil, context.Cause(ctx)
	}
}

// door is the name of the server that s is connected to first: all commands are one, for
// where they lead cannot be known.
func (s settings) door() string {
	if s.command != "" {
		return "a command"
	}
	return s.addr()
}
