//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

// This file makes the lab's networks: a bridge for each in the holder's network
// namespace, and from it a veth into each node.

// network is the holder's side of it.
type network struct {
	nl         *netlink.Handle
	mgmt, data *netlink.Bridge
}

// newNetwork makes the bridges, in the network namespace of this process.
func newNetwork() (*network, error) {
	nl, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	n := &network{nl: nl}
	if err := linkUp(nl, "lo"); err != nil {
		return nil, err
	}
	// The gateway's own addresses need no duplicate detection, and it routes nothing.
	if err := sysctls(map[string]string{
		"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0", "ipv4/ip_forward": "0",
	}); err != nil {
		return nil, err
	}
	if n.mgmt, err = n.bridge("mgmt", gateway(mgmtNet)); err != nil {
		return nil, err
	}
	if n.data, err = n.bridge("data", gateway(dataNet), gateway(dataNet6)); err != nil {
		return nil, err
	}
	// The ports need no addresses: hundreds of them would keep the machine busy.
	return n, sysctls(map[string]string{"ipv6/conf/default/disable_ipv6": "1"})
}

func (n *network) bridge(name string, addrs ...netip.Prefix) (*netlink.Bridge, error) {
	snooping := false // with no router that queries, snooping would lose neighbour discovery in time
	b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	b.Name, b.HardwareAddr = name, mac(addrs[0])
	if err := n.nl.LinkAdd(b); err != nil {
		return nil, fmt.Errorf("making a bridge: %w", err)
	}
	if err := addAddresses(n.nl, b, addrs...); err != nil {
		return nil, err
	}
	return b, n.nl.LinkSetUp(b)
}

// attach makes eth0 and eth1 in the network namespace of process pid.
func (n *network) attach(i, pid int) error {
	mgmt, data := address(mgmtNet, i+1), address(dataNet, i+1)
	if err := n.veth(n.mgmt, fmt.Sprintf("m%d", i), "eth0", mac(mgmt), pid); err != nil {
		return err
	}
	if err := n.veth(n.data, fmt.Sprintf("d%d", i), "eth1", mac(data), pid); err != nil {
		return err
	}
	// The kernel's neighbour table is one for the whole machine. A permanent
	// entry does not count there, and nobody changes the management's addresses.
	err := n.nl.NeighSet(&netlink.Neigh{
		LinkIndex: n.mgmt.Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: mgmt.Addr().AsSlice(), HardwareAddr: mac(mgmt),
	})
	if err != nil {
		return fmt.Errorf("neighbour of %s: %w", nodeName(i), err)
	}
	return nil
}

func (n *network) veth(bridge *netlink.Bridge, port, name string, addr net.HardwareAddr, pid int) error {
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: name, PeerHardwareAddr: addr, PeerNamespace: netlink.NsPid(pid)}
	v.Name, v.MasterIndex = port, bridge.Index
	v.HardwareAddr = append(net.HardwareAddr{0x02, 0x01}, addr[2:]...)
	if err := n.nl.LinkAdd(v); err != nil {
		return fmt.Errorf("making a veth: %w", err)
	}
	return n.nl.LinkSetUp(v)
}

// mac is the hardware address that goes with a: the same in every lab.
func mac(a netip.Prefix) net.HardwareAddr {
	b := a.Addr().As4()
	return net.HardwareAddr{0x02, 0x00, b[0], b[1], b[2], b[3]}
}

// configureNode gives eth0 and eth1 their addresses, in the network namespace
// of this process.
func configureNode(i int) error {
	nl, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer nl.Close()
	if err := sysctls(nodeSysctls()); err != nil {
		return err
	}
	for name, addrs := range map[string][]netip.Prefix{
		"lo":   nil,
		"eth0": {address(mgmtNet, i+1)},
		"eth1": {address(dataNet, i+1), address(dataNet6, i+1)},
	} {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := addAddresses(nl, link, addrs...); err != nil {
			return err
		}
		if err := linkUp(nl, name); err != nil {
			return err
		}
	}
	return nil
}

// nodeSysctls are what makes a node's network the same on every machine: IPv4's
// settings would else be copied from the machine's. Nothing in a lab has the
// address of another, so that duplicate detection would be a second lost.
func nodeSysctls() map[string]string {
	s := map[string]string{"ipv4/ip_forward": "0"}
	for _, c := range []string{"all", "default", "eth0", "eth1"} {
		s["ipv4/conf/"+c+"/rp_filter"] = "0"
		s["ipv6/conf/"+c+"/accept_dad"] = "0"
		s["ipv6/conf/"+c+"/accept_ra"] = "0"
		s["ipv6/conf/"+c+"/router_solicitations"] = "0"
	}
	return s
}

// sysctls sets values below /proc/sys/net, which show this process's network namespace.
func sysctls(values map[string]string) error {
	for name, v := range values {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(v), 0); err != nil {
			return fmt.Errorf("sysctl net: %w", err)
		}
	}
	return nil
}

func addAddresses(nl *netlink.Handle, link netlink.Link, addrs ...netip.Prefix) error {
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
		if err := nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

func linkUp(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	if err == nil {
		err = nl.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
