package script

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attempts are system calls that an evaluator must be refused. Each is harmless
// where it is not: it names nothing that exists, or changes nothing.
func attempts() []struct {
	name string
	args [7]uintptr // number and arguments
} {
	text := func(s string) uintptr {
		b, _ := unix.BytePtrFromString(s)
		kept = append(kept, b)
		return uintptr(unsafe.Pointer(b))
	}
	parent := uintptr(os.Getppid())
	cwd := ^uintptr(99) // AT_FDCWD
	type try = struct {
		name string
		args [7]uintptr
	}
	return []try{
		{"open a file", [7]uintptr{unix.SYS_OPENAT, cwd, text("/etc/passwd"), unix.O_RDONLY}},
		{"open its own files in /proc", [7]uintptr{unix.SYS_OPENAT, cwd, text("/proc/self/mem"), unix.O_RDWR}},
		{"list a folder", [7]uintptr{unix.SYS_OPENAT, cwd, text("/"), unix.O_RDONLY | unix.O_DIRECTORY}},
		{"look at a file", [7]uintptr{unix.SYS_FACCESSAT, cwd, text("/etc/passwd"), 0}},
		{"remove a file", [7]uintptr{unix.SYS_UNLINKAT, cwd, text("/nonexistent/file"), 0}},
		{"make a folder", [7]uintptr{unix.SYS_MKDIRAT, cwd, text("/nonexistent/folder"), 0}},
		{"change the root folder", [7]uintptr{unix.SYS_CHROOT, text("/nonexistent")}},
		{"mount", [7]uintptr{unix.SYS_UMOUNT2, text("/nonexistent"), 0}},
		{"open a TCP socket", [7]uintptr{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0}},
		{"open a UNIX socket", [7]uintptr{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0}},
		{"open a netlink socket", [7]uintptr{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0}},
		{"make files of memory", [7]uintptr{unix.SYS_MEMFD_CREATE, text("x"), 0}},
		// Where the program may be opened, the kernel stumbles over these addresses of its arguments.
		{"execute a program", [7]uintptr{unix.SYS_EXECVE, text("/proc/self/exe"), 1, 1}},
		{"start a process", [7]uintptr{unix.SYS_CLONE, uintptr(unix.SIGCHLD)}},
		{"trace the controller", [7]uintptr{unix.SYS_PTRACE, unix.PTRACE_PEEKDATA, parent, 0, 0}},
		{"read the controller's memory", [7]uintptr{unix.SYS_PROCESS_VM_READV, parent, 0, 0, 0, 0, 0}},
		{"signal the controller", [7]uintptr{unix.SYS_KILL, parent, 0}},
		{"signal a thread of the controller", [7]uintptr{unix.SYS_TGKILL, parent, parent, 0}},
		{"raise its limits", [7]uintptr{unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, 0}},
		{"map memory for code", [7]uintptr{unix.SYS_MMAP, 0, 4096, unix.PROT_READ | unix.PROT_EXEC, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, ^uintptr(0), 0}},
		{"enter another namespace", [7]uintptr{unix.SYS_UNSHARE, 0}},
		{"load a BPF program", [7]uintptr{unix.SYS_BPF, 0xffff, 0, 0}},
		{"use io_uring", [7]uintptr{unix.SYS_IO_URING_SETUP, 0, 0}},
		{"use performance counters", [7]uintptr{unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0}},
		{"use the kernel's keys", [7]uintptr{unix.SYS_KEYCTL, 0xffff}},
	}
}

// kept holds what system calls are given as numbers.
var kept []*byte

// tries tries each in several threads, and says how the weakest was refused.
func tries() []Layer {
	all := attempts()
	errnos := make([][]syscall.Errno, len(all))
	for i := range errnos {
		errnos[i] = make([]syscall.Errno, maxProcs)
	}
	var done sync.WaitGroup
	together := make(chan struct{})
	for n := range maxProcs {
		done.Go(func() {
			runtime.LockOSThread() // so that each has a thread of its own
			defer runtime.UnlockOSThread()
			<-together
			for i, a := range all {
				errnos[i][n] = tryCall(a.args)
			}
		})
	}
	close(together)
	done.Wait()
	out := make([]Layer, len(all))
	for i, a := range all {
		out[i] = Layer{Name: a.name, InForce: true}
		for _, errno := range errnos[i] {
			out[i].Detail = "refused: " + errno.Error()
			if errno != unix.EPERM && errno != unix.EACCES {
				out[i].InForce, out[i].Detail = false, "not refused: "+errno.Error()
				break
			}
		}
	}
	return out
}

// tryCall makes one system call. A process that it has made ends at once.
func tryCall(a [7]uintptr) syscall.Errno {
	r, _, errno := syscall.RawSyscall6(a[0], a[1], a[2], a[3], a[4], a[5], a[6])
	if errno == 0 && a[0] == unix.SYS_CLONE && r == 0 {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return errno
}
