package journal

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// A run that is held hears of a stop, whatever a killed one has left, and however long the path is.
func TestStop(t *testing.T) {
	for what, dir := range map[string]string{"a short path": t.TempDir(), "a long path": filepath.Join(t.TempDir(), strings.Repeat("long/", 40))} {
		t.Run(what, func(t *testing.T) {
			j := open(t, dir)
			id := begin(t, j, record)
			if _, err := j.Stop(t.Context(), id, false); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a run that nobody drives: %v", err)
			}
			release, err := j.Hold(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(j.holdPath(id)+socketSuffix, nil, 0o600); err != nil { // as a process that was killed leaves it
				t.Fatal(err)
			}
			heard := make(chan bool, 2)
			end, err := j.Listen(id, Listener{Stop: func(now bool) string { heard <- now; return "it does" }})
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Stat(j.holdPath(id) + socketSuffix); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", st.Mode(), err)
			}
			for _, now := range []bool{false, true} {
				says, err := open(t, dir).Stop(t.Context(), id, now)
				if err != nil || says != "it does" || <-heard != now {
					t.Errorf("now %v: %q, %v", now, says, err)
				}
			}
			if going, err := j.Going(); err != nil || !slices.Equal(going, []string{id}) {
				t.Errorf("%v, %v", going, err)
			}
			end()
			release()
			if going, err := j.Going(); err != nil || len(going) > 0 {
				t.Errorf("%v, %v", going, err)
			}
			if left, err := os.ReadDir(filepath.Dir(j.holdPath(id))); err != nil || len(left) > 0 {
				t.Errorf("%v is left: %v", left, err)
			}
		})
	}
}

// A run is told once, also where its answer is lost: the second time means something else.
func TestStopIsSaidOnce(t *testing.T) {
	j := open(t, t.TempDir())
	id := begin(t, j, record)
	release, err := j.Hold(id)
	if err != nil {
		t.Fatal(err)
	}
	name, done, err := socketName(j.holdPath(id) + socketSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := make(chan int)
	go func() {
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				said <- n
				return
			}
			n++
			c.Close()
			time.AfterFunc(200*time.Millisecond, release)
		}
	}()
	if _, err := j.Stop(t.Context(), id, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	l.Close()
	if n := <-said; n != 1 {
		t.Errorf("it was told %d times", n)
	}
}

// A run whose process stands still does not keep the operator waiting for ever.
func TestStopOfOneThatStandsStill(t *testing.T) {
	j := open(t, t.TempDir())
	id := begin(t, j, record)
	release, err := j.Hold(id)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	_, err = j.Stop(t.Context(), id, false)
	wantError(t, err, engine.Internal, "has not answered within 5s")
}
