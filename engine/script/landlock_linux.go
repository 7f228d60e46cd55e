package script

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file takes all files, and what a process could do to others, from the
// evaluator by Landlock. Its rules have no exception, so there are none to get
// wrong.

// accessOf is what each version of Landlock's interface can forbid: of files,
// of the network, and beyond its own domain.
var accessOf = []struct {
	version          int
	files, net, scop uint64
}{
	{1, 1<<13 - 1, 0, 0}, // all from EXECUTE to MAKE_SYM
	{2, unix.LANDLOCK_ACCESS_FS_REFER, 0, 0},
	{3, unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, 0},
	{4, 0, unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 0},
	{5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, 0, 0},
	{6, 0, 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL},
}

// landlock forbids all that the kernel's version of it can, and tries it.
func landlock() Layer {
	layer := Layer{Name: "landlock"}
	version, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		layer.Detail = "the kernel does not have it: " + errno.Error()
		return layer
	}
	var rules unix.LandlockRulesetAttr
	layer.Detail = fmt.Sprintf("version %d: no files", version)
	for _, a := range accessOf {
		if a.version > int(version) {
			break
		}
		rules.Handled_access_fs |= a.files
		rules.Handled_access_net |= a.net
		rules.Scoped |= a.scop
	}
	if rules.Handled_access_net != 0 {
		layer.Detail += ", no TCP"
	}
	if rules.Scoped != 0 {
		layer.Detail += ", no signals and no abstract sockets of others"
	}
	if err := restrict(&rules); err != nil {
		layer.Detail = err.Error()
		return layer
	}
	if f, err := os.Open("/"); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EMFILE) {
		f.Close()
		layer.Detail = fmt.Sprintf("the root folder could still be opened (%v)", err)
		return layer
	}
	layer.InForce = true
	return layer
}

// restrict puts every thread under rules.
func restrict(rules *unix.LandlockRulesetAttr) error {
	// An older kernel takes a longer structure where what it does not know is zero.
	fd, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(rules)), unsafe.Sizeof(*rules), 0)
	if errno != 0 {
		return fmt.Errorf("the rules: %w", errno)
	}
	defer unix.Close(int(fd))
	if errno := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno == unix.ENOTSUP {
		return errors.New("this runbook was built with C in it, and Go then cannot restrict all threads: build with CGO_ENABLED=0")
	} else if errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	if errno := allThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("the restriction: %w", errno)
	}
	return nil
}
