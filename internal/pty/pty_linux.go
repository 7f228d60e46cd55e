// Package pty is a terminal for tests: a pseudo-terminal with an emulator at its far end, which
// shows what a person would see and answers what it is asked, as terminals do.
package pty

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"golang.org/x/sys/unix"
)

// Terminal is a terminal.
type Terminal struct {
	// Slave is its near end: what a program has as its standard input and output.
	Slave *os.File

	t       testing.TB
	master  *os.File
	mu      sync.Mutex // of the emulator, and held while the terminal stands still
	far     *vt.Emulator
	written atomic.Int64
	dumb    atomic.Bool
	ended   chan struct{}
}

// Open returns a terminal of so many columns and rows, which is gone when the test is over.
func Open(t testing.TB, columns, rows int) *Terminal {
	t.Helper()
	master, slave, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	x := &Terminal{Slave: slave, t: t, master: master, far: vt.NewEmulator(columns, rows), ended: make(chan struct{})}
	x.Resize(columns, rows)
	go x.draw()
	go x.answer()
	t.Cleanup(func() {
		x.Close()
		slave.Close()                         //nolint:errcheck // it may be already
		x.far.InputPipe().(io.Closer).Close() //nolint:errcheck // that ends who answers
		<-x.ended
	})
	return x
}

// pair is the two ends of a new pseudo-terminal.
func pair() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close() //nolint:errcheck // it was of no use
	}
	return master, slave, err
}

// draw has the emulator draw what is written.
func (x *Terminal) draw() {
	defer close(x.ended)
	b := make([]byte, 1<<14)
	for {
		n, err := x.master.Read(b)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.far.Write(b[:n]) //nolint:errcheck // it is memory
		x.mu.Unlock()
		x.written.Add(int64(n))
	}
}

// answer sends on what the emulator answers.
func (x *Terminal) answer() {
	b := make([]byte, 1<<10)
	for {
		n, err := x.far.Read(b)
		if err != nil {
			return
		}
		if !x.dumb.Load() {
			x.master.Write(b[:n]) //nolint:errcheck // nobody is there any more
		}
	}
}

// Dumb has it answer nothing any more.
func (x *Terminal) Dumb() { x.dumb.Store(true) }

// Still has it stand still, as a slow line does, until go is called.
func (x *Terminal) Still() (goOn func()) {
	x.mu.Lock()
	return x.mu.Unlock
}

// Type types text, of which "\r" is the enter key.
func (x *Terminal) Type(text string) {
	x.t.Helper()
	if _, err := x.master.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

// Resize makes it another size; who has it as his terminal is told.
func (x *Terminal) Resize(columns, rows int) {
	x.t.Helper()
	x.mu.Lock()
	x.far.Resize(columns, rows)
	x.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		x.t.Fatal(err)
	}
}

// Close hangs up.
func (x *Terminal) Close() { x.master.Close() } //nolint:errcheck // it may be already

// Written is how many bytes it was sent.
func (x *Terminal) Written() int64 { return x.written.Load() }

// Screen is what is to be seen, a line for each row.
func (x *Terminal) Screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for y := range x.far.Height() {
		line := ""
		for c := 0; c < x.far.Width(); {
			cell := x.far.CellAt(c, y)
			if cell == nil || cell.Content == "" {
				line += " "
				c++
				continue
			}
			line += cell.Content
			c += max(cell.Width, 1)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// Until waits for what is to be seen, and returns the screen.
func (x *Terminal) Until(what string, seen func(screen string) bool) string {
	x.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s := x.Screen()
		if seen(s) {
			return s
		}
		if time.Now().After(end) {
			x.t.Fatalf("never: %s; on the screen is\n%s", what, s)
		}
	}
}

// Has is for [Terminal.Until]: all of parts are to be seen.
func Has(parts ...string) func(string) bool {
	return func(s string) bool {
		for _, p := range parts {
			if !strings.Contains(s, p) {
				return false
			}
		}
		return true
	}
}
