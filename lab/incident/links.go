//go:build linux

package incident

import (
	"context"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/lab"
)

// watchLink calls down each time that the kernel takes a link of the node down,
// whoever asked for it, until ctx ends.
func watchLink(ctx context.Context, ns *lab.NetNS, name string, down func()) error {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	if err := ns.Do(func() error { return netlink.LinkSubscribe(updates, done) }); err != nil {
		return engine.Internal.Errorf("watching %s: %w", name, err)
	}
	go func() {
		<-ctx.Done()
		close(done)
	}()
	go func() {
		up := true
		for u := range updates {
			if u.Attrs().Name != name {
				continue
			}
			is := u.IfInfomsg.Flags&unix.IFF_UP != 0
			if up && !is {
				down()
			}
			up = is
		}
	}()
	return nil
}
