//go:build linux

package lab

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runbook/internal/integration"
)

// TestMachineIsUntouched compares the machine before, during and after a lab in
// which root does what would change the machine if it could.
func TestMachineIsUntouched(t *testing.T) {
	integration.Need(t, "root", "sshd", "ip")
	var each []string  // what was different in each attempt
	for i := range 3 { // other programs change the machine too, but not in the same way each time
		before := machine(t)
		l := up(t, Options{Nodes: 3})
		for _, n := range l.Nodes() {
			mischief(t, l, n.Name)
		}
		during := machine(t)
		processes := integration.Family(t, l.HolderPID())
		if err := l.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		integration.AwaitNone(t, processes, lifetime)
		after := machine(t)
		diff := append(different("during", before, during), different("after", before, after)...)
		if i == 0 {
			each = diff
		}
		each = slices.DeleteFunc(each, func(d string) bool { return !slices.Contains(diff, d) })
		if len(each) == 0 {
			return
		}
	}
	t.Errorf("a lab changes the machine:\n%s", strings.Join(each, "\n"))
}

// TestInitMayDoNoMore checks that root in a node gains nothing from tracing process 1.
func TestInitMayDoNoMore(t *testing.T) {
	l := up(t, Options{Nodes: 1})
	_, theirs := run(t, l, "node-1", "grep", "Cap", "/proc/1/status")
	_, ours := run(t, l, "node-1", "grep", "Cap", "/proc/self/status")
	if theirs != ours || !strings.Contains(ours, "CapPrm") {
		t.Errorf("process 1 has\n%sand a program\n%s", theirs, ours)
	}
	_, bounding, _ := strings.Cut(ours, "CapBnd:\t")
	bits, err := strconv.ParseUint(strings.Fields(bounding)[0], 16, 64)
	if err != nil || bits&(1<<unix.CAP_SYS_ADMIN) != 0 || bits&(1<<unix.CAP_NET_ADMIN) == 0 {
		t.Errorf("capabilities are %x, %v", bits, err)
	}
}

// mischief is what must not be possible in a node, and what must not be felt outside.
func mischief(t *testing.T, l *Lab, node string) {
	t.Helper()
	for _, argv := range []string{
		"touch /lab-was-here", "touch /usr/lab-was-here", "mkdir /opt/lab-was-here",
		"mount -o remount,rw /", "mount -o remount,bind,rw /", "umount /etc", "umount -l /tmp",
		"mknod /tmp/disk b 254 0", "sysctl -w kernel.panic=77", "sysctl -w vm.swappiness=11",
		"date -s 2001-01-01", "dmesg -C",
		"cp /etc/passwd /proc/sysrq-trigger", "nsenter -t 1 -m true",
	} {
		if code, _ := run(t, l, node, strings.Fields(argv)...); code == 0 {
			t.Errorf("%s: root could: %s", node, argv)
		}
	}
	for _, argv := range []string{
		"ip link set eth1 down", "ip link add dummy9 type dummy", "ip route add 10.77.0.0/16 via 10.99.0.1",
		"ip rule add table 77", "sysctl -w net.ipv4.ip_forward=1", "sysctl -w net.ipv6.conf.all.forwarding=1",
		"touch /etc/lab-was-here", "rm /etc/passwd", "touch /root/lab-was-here", "touch /var/tmp/lab-was-here",
		"touch /run/lab-was-here", "touch /home/lab-was-here", "touch /dev/shm/lab-was-here",
	} {
		code, out := run(t, l, node, strings.Fields(argv)...)
		if code != 0 && !strings.Contains(out, "Unknown device type") { // a kernel without dummy
			t.Errorf("%s: root could not: %s: %s", node, argv, out)
		}
	}
}

// machine describes what a lab must leave alone, a line for each thing.
func machine(t *testing.T) map[string]string {
	t.Helper()
	m := map[string]string{}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	links, err := netlink.LinkList()
	must(err)
	for _, l := range links {
		a := l.Attrs()
		m["link "+a.Name] = fmt.Sprint(a.Index, a.MTU, a.HardwareAddr, a.RawFlags, a.OperState, a.MasterIndex)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	must(err)
	for _, a := range addrs {
		m[fmt.Sprint("address ", a.LinkIndex, a.IPNet)] = fmt.Sprint(a.Flags, a.Scope)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	must(err)
	for _, r := range routes {
		m["route "+r.String()] = "there"
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	must(err)
	for _, r := range rules {
		m["rule "+r.String()] = "there"
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(err)
	for l := range strings.Lines(string(b)) {
		if f := strings.SplitN(l, " ", 3); len(f) == 3 { // without its number and its parent's, which are new each time
			m["mount "+f[2]] += "there "
		}
	}
	for _, root := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/kernel/hostname", "/proc/sys/kernel/panic", "/proc/sys/vm/swappiness"} {
		readAll(m, root)
	}
	readAll(m, "/etc")
	for _, dir := range []string{"/", "/usr", "/opt", "/root", "/home", "/var", "/run", "/dev/shm", "/var/tmp"} {
		entries, err := os.ReadDir(dir)
		must(err)
		for _, e := range entries {
			m["entry "+filepath.Join(dir, e.Name())] = e.Type().String()
		}
	}
	return m
}

// readAll adds every file below root: its mode, its time and a hash of its content.
func readAll(m map[string]string, root string) {
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		text := info.Mode().String()
		if !strings.HasPrefix(p, "/proc/") {
			text += info.ModTime().String()
		}
		if info.Mode().IsRegular() {
			b, _ := os.ReadFile(p)
			text += fmt.Sprintf(" %d bytes %x", len(b), sha256.Sum256(b))
		}
		m["file "+p] = text
		return nil
	})
}

func different(when string, a, b map[string]string) []string {
	var out []string
	for k, v := range a {
		if b[k] != v {
			out = append(out, fmt.Sprintf("%s: %s was %q, is %q", when, k, v, b[k]))
		}
	}
	for k, v := range b {
		if _, ok := a[k]; !ok {
			out = append(out, fmt.Sprintf("%s: %s is new: %q", when, k, v))
		}
	}
	slices.Sort(out)
	return out
}

// ping sends one echo request and waits for an answer.
func ping(addr string) error {
	network, request, answer := "ip4:icmp", byte(8), byte(0)
	if strings.Contains(addr, ":") {
		network, request, answer = "ip6:ipv6-icmp", 128, 129
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	packet := []byte{request, 0, 0, 0, 0x12, 0x34, 0, 1}
	if request == 8 { // for IPv6 the kernel sums
		sum := ^(uint32(request)<<8 + 0x1234 + 1)
		packet[2], packet[3] = byte(sum>>8), byte(sum)
	}
	if _, err := c.Write(packet); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	for b := make([]byte, 1500); ; {
		n, _, err := c.(net.PacketConn).ReadFrom(b) // which leaves out IPv4's own header
		if err != nil {
			return err
		}
		if n >= 8 && b[0] == answer {
			return nil
		}
	}
}
