//go:build amd64 || arm64

package script

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file leaves the evaluator the system calls that Go needs to compute, to
// collect garbage and to speak with the controller over its pipes.
//
// Every other call is refused with EPERM. That denies as much as killing would,
// but a newer runtime or C library that tries a call it can do without goes on
// without it, and the refusals can be tried one after another: see [Probe].
// Only a call by the convention of another architecture kills the process:
// its numbers mean something else, and Go never makes one.

// anyArgs are the calls that are allowed whatever their arguments; the file of
// the architecture has a few more.
var anyArgs = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL, unix.SYS_PPOLL,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_RESTART_SYSCALL,
	unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETRANDOM,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_MEMBARRIER,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}

// Offsets in struct seccomp_data. Of an argument only the lower half is looked
// at: what is tested lies there, on machines that are little-endian.
const (
	atNumber = 0
	atArch   = 4
	atArgs   = 16
)

const (
	allow   = unix.SECCOMP_RET_ALLOW
	refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	noSuch  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

func loadAt(at uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
}

func ret(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

// jump skips yes instructions where the test of what was loaded against k holds, else no.
func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, K: k, Jt: yes, Jf: no}
}

// when is the end of the filter for the call number: yes where the test of its
// argument against k holds, else no.
func when(number uint32, arg int, test uint16, k, yes, no uint32) []unix.SockFilter {
	return []unix.SockFilter{
		jump(unix.BPF_JEQ, number, 0, 4),
		loadAt(atArgs + 8*uint32(arg)),
		jump(test, k, 0, 1),
		ret(yes),
		ret(no),
	}
}

// filter is the program that decides on each call of the process pid.
func filter(pid int) []unix.SockFilter {
	f := []unix.SockFilter{
		loadAt(atArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		loadAt(atNumber),
	}
	for _, number := range append(anyArgs, archCalls...) {
		f = append(f, jump(unix.BPF_JEQ, number, 0, 1), ret(allow))
	}
	f = append(f, when(unix.SYS_CLONE, 0, unix.BPF_JSET, unix.CLONE_THREAD, allow, refused)...) // no process
	f = append(f, when(unix.SYS_TGKILL, 0, unix.BPF_JEQ, uint32(pid), allow, refused)...)       // no signal to another
	f = append(f, when(unix.SYS_MMAP, 2, unix.BPF_JSET, unix.PROT_EXEC, refused, allow)...)     // no code that was not there
	f = append(f, when(unix.SYS_MPROTECT, 2, unix.BPF_JSET, unix.PROT_EXEC, refused, allow)...) // likewise
	f = append(f, jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), ret(noSuch), ret(refused))         // C libraries then use clone
	return f
}

// seccomp puts every thread under the filter.
func seccomp() Layer {
	layer := Layer{Name: "seccomp"}
	code := filter(os.Getpid())
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		layer.Detail = "the kernel does not take it: " + errno.Error()
		return layer
	}
	layer.InForce = true
	layer.Detail = "no files, sockets, programs, processes, tracing; only what Go needs to compute"
	return layer
}
