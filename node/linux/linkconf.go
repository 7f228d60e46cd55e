//go:build linux

package linux

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// This file reads the sysctls of a link that decide what becomes of its
// addresses and routes. Its own come with the link, as arrays; what is set for all links
// is read from /proc, and joined as the kernel joins the two.

// Places in the arrays: IPV4_DEVCONF_* less one, DEVCONF_*.
const (
	conf4PromoteSecondaries = 19
	conf4IgnoreLinkdown     = 28

	conf6Forwarding     = 0
	conf6AcceptRA       = 3
	conf6DisableIPv6    = 26
	conf6AcceptDAD      = 27
	conf6IgnoreLinkdown = 39
	conf6KeepAddr       = 42
)

// Attributes of the families in IFLA_AF_SPEC.
const (
	inetConf         = 1 // IFLA_INET_CONF
	inet6Conf        = 2 // IFLA_INET6_CONF
	inet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
)

// decodeConf reads the settings of a link from its IFLA_AF_SPEC. A family that is not
// there has none: IPv6 is then disabled.
func decodeConf(spec []byte, n *Node) resource.LinkConf {
	c := resource.LinkConf{DisableIPv6: true}
	for family, a := range attrs(spec) {
		for kind, v := range attrs(value(a)) {
			at := func(i int) int32 { return int32(u32At(value(v), i)) }
			switch {
			case family == unix.AF_INET && kind == inetConf:
				c.PromoteSecondaries = at(conf4PromoteSecondaries) != 0 || n.forAll("ipv4", "promote_secondaries") != 0
				c.IgnoreLinkdown4 = at(conf4IgnoreLinkdown) != 0
			case family == unix.AF_INET6 && kind == inet6AddrGenMode:
				c.AddrGenMode = u8(v)
			case family == unix.AF_INET6 && kind == inet6Conf:
				c.DisableIPv6 = at(conf6DisableIPv6) != 0
				c.Forwarding6 = at(conf6Forwarding) != 0
				c.IgnoreLinkdown6 = at(conf6IgnoreLinkdown) != 0
				c.NoRA = at(conf6AcceptRA) == 0 || c.Forwarding6 && at(conf6AcceptRA) != 2
				c.NoDAD = at(conf6AcceptDAD) < 1 && n.forAll("ipv6", "accept_dad") < 1
				keep := n.forAll("ipv6", "keep_addr_on_down") // where it is set for all, that holds
				if keep == 0 {
					keep = int(at(conf6KeepAddr))
				}
				c.KeepAddrOnDown = keep > 0
			}
		}
	}
	return c
}

// u32At is number i of an array, 0 where it is shorter: an older kernel knows less.
func u32At(b []byte, i int) uint32 {
	if len(b) < 4*i+4 {
		return 0
	}
	return native.Uint32(b[4*i:])
}

// forAll is what the sysctl name is set to for all links, 0 where there is none.
func (n *Node) forAll(family, name string) int {
	var text [16]byte
	size := 0
	if f := n.sysctls.file(n.ns, "/proc/sys/net/"+family+"/conf/all/"+name); f != nil {
		size, _ = unix.Pread(int(f.Fd()), text[:], 0)
	}
	v, _ := strconv.Atoi(strings.TrimSpace(string(text[:max(size, 0)])))
	return v
}

// sysctls are files of /proc/sys/net that stay open, for every look at a link
// reads some of them, and to open one takes ten times as long as to read it.
type sysctls struct {
	mu    sync.Mutex
	files map[string]*os.File // nil: it is missing, on an older kernel
}

func (s *sysctls) file(ns netns.NsHandle, path string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.files[path]
	if known {
		return f
	}
	if !ns.IsOpen() {
		f = openPlain(path)
	} else {
		done := make(chan struct{})
		go func() { // these files are those of the opener's namespace
			defer close(done)
			runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
			if netns.Set(ns) == nil {
				f = openPlain(path)
			}
		}()
		<-done
	}
	if s.files == nil {
		s.files = map[string]*os.File{}
	}
	s.files[path] = f
	return f
}

// openPlain opens path for reading without the runtime's poller, which has no use for such a file.
func openPlain(path string) *os.File {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

func (s *sysctls) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, f := range s.files {
		if f != nil {
			f.Close() //nolint:errcheck // it was only read
		}
		s.files[path] = nil
	}
}
