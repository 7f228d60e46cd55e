//go:build linux

package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
)

// folder is where a node keeps what it must not forget.
type folder struct {
	dir string
	now func() moment
}

// Folder returns where this process keeps what its node must not forget: for
// root in /var/lib/runbook, otherwise, or where that is not there and cannot be made, in
// the user's own folder for state. A network namespace that is not PID 1's is
// another node, with a folder of its own.
func Folder() string {
	dir := "/var/lib/runbook"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && writable(dir) != nil || os.Geteuid() != 0 {
		state := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) {
			home, _ := os.UserHomeDir()
			state = filepath.Join("/", home, ".local/state")
		}
		name, _ := os.Hostname() // several nodes may share a home
		dir = filepath.Join(state, "runbook", name)
	}
	if own, first := namespace("net"); !first {
		dir = filepath.Join(dir, "net-"+strings.Trim(own, "net:[]"))
	}
	return dir
}

// namespace is this process's namespace of a kind, and whether PID 1 is in the
// same; a user who cannot see that of PID 1 is taken to be.
func namespace(kind string) (own string, first bool) {
	own, _ = os.Readlink("/proc/self/ns/" + kind)
	of1, err := os.Readlink("/proc/1/ns/" + kind)
	return own, err == nil && own == of1 || err != nil && os.Geteuid() != 0
}

// writable is why no file can be made in dir, which may have to be made itself, or nil.
func writable(dir string) error {
	err := unix.Access(dir, unix.W_OK|unix.X_OK)
	if errors.Is(err, unix.ENOENT) && dir != "/" {
		return writable(filepath.Dir(dir))
	}
	if err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

const newPrefix = "new-" // of a file that is being written

// save makes name hold v. When it returns nil, that survives a power cut;
// otherwise name holds what it did.
func (f folder) save(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(name, b, 0o600)
}

// write makes name hold b, as save does.
func (f folder) write(name string, b []byte, mode fs.FileMode) error {
	t, err := os.CreateTemp(f.dir, newPrefix+"*")
	if err != nil {
		return err
	}
	_, err = t.Write(b)
	err = errors.Join(err, t.Chmod(mode), t.Sync(), t.Close())
	if err == nil {
		err = os.Rename(t.Name(), f.path(name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(t.Name()))
	}
	return f.sync()
}

// load reads into v what name holds.
func (f folder) load(name string, v any) error {
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", f.path(name), err)
	}
	return nil
}

// remove removes name, for good.
func (f folder) remove(name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.sync()
}

// sync makes the names in the folder survive a power cut.
func (f folder) sync() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// make makes the folder where there is none.
func (f folder) make() error {
	if _, err := os.Stat(f.dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	return folder{dir: filepath.Dir(f.dir)}.sync()
}

// The files that are locked and hold nothing: by who changes the node, and by
// the guardian that watches.
const (
	lockName  = "lock"
	watchName = "watch"
)

// lock waits until nobody else changes the node. Closing the file ends that. It is given up
// a little before ctx ends, so that who waits still hears why.
func (f folder) lock(ctx context.Context) (*os.File, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-min(time.Second, time.Until(end)/10)))
		defer cancel()
	}
	if err := f.make(); err != nil {
		return nil, unwritable(err)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := f.tryLock(lockName)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, f.busy(ctx.Err())
		}
	}
}

// busy is the error of who has waited in vain until nobody else changes the node.
func (f folder) busy(err error) *engine.Error {
	e := &engine.Error{Code: engine.Unreachable, Cause: "somebody else is changing the node, or it is being put back", Left: engine.NothingChanged, Err: err}
	pid := f.holder(lockName)
	if pid != 0 {
		e.Cause += fmt.Sprintf(", by process %d of the node", pid)
	}
	if h, held := f.holding(); held && pid != 0 && pid == f.holder(holdName) {
		e.Cause += ", for " + engine.Holding(f.heldBy(h))
	}
	if stopped(pid) {
		e.Hint = engine.StandsStill(pid)
	}
	return e
}

// tryLock locks the file name; nil: somebody else has.
func (f folder) tryLock(name string) (*os.File, error) {
	l, err := os.OpenFile(f.path(name), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(err)
	}
	err = unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return l, nil
	}
	l.Close() //nolint:errcheck // it was only opened
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, unwritable(&fs.PathError{Op: "lock", Path: f.path(name), Err: err})
}

// locked reports whether somebody has locked the file name, as tryLock does. Who only asks that locks
// nobody out for whom it matters, and is never taken for one that has it.
func (f folder) locked(name string) (bool, error) {
	l, err := os.Open(f.path(name))
	if errors.Is(err, fs.ErrNotExist) { // nobody ever has
		return false, nil
	}
	if err != nil {
		return false, unwritable(err)
	}
	defer l.Close() //nolint:errcheck // it was only opened
	err = unix.Flock(int(l.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return errors.Is(err, unix.EWOULDBLOCK), nil
}

// unwritable is err as the refusal of a change that must be written down.
func unwritable(err error) error {
	return &engine.Error{
		Code: engine.Unreachable, Cause: "the node could not remember or take back the change, so it is not made: " + err.Error(),
		Left: engine.NothingChanged, Err: err,
	}
}

// holder is the process that has locked the file name; 0: none that can be seen. The kernel tells of all locks of the
// machine in pieces, and may leave one out between two of them while others come and go: whoever is not there is looked for again.
func (f folder) holder(name string) int {
	for range 3 {
		if pid := f.listed(name); pid != 0 {
			return pid
		}
	}
	return 0
}

// listed is who has locked the file name by one look at what the kernel lists, or 0.
func (f folder) listed(name string) int {
	var st unix.Stat_t
	b, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Stat(f.path(name), &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(b)) { // "1: FLOCK  ADVISORY  WRITE 4242 fe:00:12345 0 EOF"
		w := strings.Fields(line)
		if len(w) > 5 && w[1] == "FLOCK" && w[3] == "WRITE" && w[5] == file {
			pid, _ := strconv.Atoi(w[4])
			return pid
		}
	}
	return 0
}

// stopped reports whether the process pid stands still, as after SIGSTOP.
func stopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := bytes.LastIndexByte(b, ')') // of its name, which may hold anything
	return err == nil && end >= 0 && len(b) > end+2 && (b[end+2] == 'T' || b[end+2] == 't')
}

// dying reports whether the process pid was killed, or has ended: it does nothing more.
func dying(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return pid != 0 && errors.Is(err, fs.ErrNotExist)
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); name {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd": // signals that are on their way to it
			if set, err := strconv.ParseUint(value, 16, 64); err == nil && set&(1<<(uint(syscall.SIGKILL)-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// kill ends the process that has locked the file name: it hangs.
func (f folder) kill(name string) {
	pid := f.holder(name)
	if pid <= 1 || pid == os.Getpid() {
		return
	}
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(p)        //nolint:errcheck // a descriptor
	if f.holder(name) == pid { // it is the same process still
		unix.PidfdSendSignal(p, syscall.SIGKILL, nil, 0) //nolint:errcheck // the lock tells
	}
}
