//go:build linux

package linux

import (
	"context"
	"errors"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// skipStats asks for links without their counters (RTEXT_FILTER_SKIP_STATS),
// which are most of their bytes.
const skipStats = 1 << 3

// links reads the links that q selects into out.
func (n *Node) links(ctx context.Context, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	names := names{node: n}
	var found [][]byte
	take := func(msg []byte) { found = append(found, append([]byte(nil), msg...)) }
	named := true
	for _, s := range q {
		named = named && s.Name != ""
	}
	if named {
		for _, s := range q {
			if err := n.oneLink(ctx, s.Name, take); err != nil {
				return err
			}
		}
	} else {
		req := putU32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStats)
		err := n.dump(ctx, unix.RTM_GETLINK, req, unix.RTM_NEWLINK, func() { found = nil }, take)
		if err != nil {
			return err
		}
	}
	for _, msg := range found {
		l, err := decodeLink(msg, &names)
		if err != nil {
			return err
		}
		if q.Match(l) {
			out[l.Key()] = l
		}
	}
	return nil
}

func (n *Node) oneLink(ctx context.Context, name string, take func([]byte)) error {
	index, err := n.linkIndex(name)
	if err == nil {
		req := make([]byte, unix.SizeofIfInfomsg)
		native.PutUint32(req[4:], index)
		req = putU32(req, unix.IFLA_EXT_MASK, skipStats)
		err = n.exchange(ctx, unix.RTM_GETLINK, 0, req, unix.RTM_NEWLINK, take)
	}
	var errno unix.Errno
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case errors.As(err, &errno):
		return unreadable(err)
	}
	return err
}

// decodeLink turns the message of a link into a Link.
func decodeLink(msg []byte, names *names) (resource.Link, error) {
	hardware := native.Uint16(msg[2:])
	flags := native.Uint32(msg[8:])
	l := resource.Link{
		Up:      flags&unix.IFF_UP != 0,
		Carrier: flags&unix.IFF_LOWER_UP != 0,
		NoARP:   flags&unix.IFF_NOARP != 0,
	}
	switch hardware {
	case unix.ARPHRD_LOOPBACK:
		l.Type = "loopback"
	default:
		l.Type = (&nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Type: hardware}}).EncapType()
	}
	var err error
	lower, elsewhere := uint32(0), false
	for kind, a := range attrs(msg[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_LINK:
			lower = u32(a)
		case unix.IFLA_LINK_NETNSID: // it is not of this node
			elsewhere = true
		case unix.IFLA_MAX_MTU:
			if max := u32(a); max < 1<<31 {
				l.MaxMTU = int(max)
			}
		case unix.IFLA_AF_SPEC:
			if hardware != unix.ARPHRD_LOOPBACK {
				l.Conf = decodeConf(value(a), names.node)
			}
		case unix.IFLA_IFNAME:
			l.Name = text(a)
		case unix.IFLA_ADDRESS:
			l.MAC = hardwareAddr(value(a))
		case unix.IFLA_MTU:
			l.MTU = int(u32(a))
		case unix.IFLA_IFALIAS:
			l.Alias = text(a)
		case unix.IFLA_MASTER:
			l.Master, err = names.of(u32(a))
		case unix.IFLA_LINKINFO:
			for kind, info := range attrs(value(a)) {
				if kind == unix.IFLA_INFO_KIND {
					l.Type = text(info)
				}
			}
		}
		if err != nil {
			return l, err
		}
	}
	if lower != 0 && !elsewhere {
		l.Lower, err = names.of(lower)
	}
	return l, err
}

// hardwareAddr is a link's own address; the loopback's, all zero, is none.
func hardwareAddr(b []byte) string {
	for _, c := range b {
		if c != 0 {
			return net.HardwareAddr(b).String()
		}
	}
	return ""
}
