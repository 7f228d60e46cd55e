package ssh

import "golang.org/x/sys/unix"

// acknowledge sends the acknowledgement that is due. The kernel goes back to
// waiting by itself.
func acknowledge(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // only speed depends on it
}
