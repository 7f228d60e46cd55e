package builtins

import (
	"context"
	"fmt"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() { Operations["addr.list"] = AddrList{} }

// AddrList returns the node's addresses, by link.
//
//	[a.prefix for a in node.addr.list(dev = "eth1", family = 4)]
type AddrList struct {
	Dev    string `json:"dev,omitempty"`    // only those of this link
	Family int    `json:"family,omitempty"` // only 4 or 6
}

func (o AddrList) String() string { return o.Dev }

// Validate checks the arguments.
func (o AddrList) Validate() error { return checkFamily(o.Family) }

// Look implements [engine.Probe].
func (o AddrList) Look(ctx context.Context, n engine.Reader) (any, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	return views[resource.Addr](ctx, n, resource.Selector{Kind: resource.KindAddr, Name: o.Dev, Family: o.Family})
}

func checkFamily(f int) error {
	if f != 0 && f != 4 && f != 6 {
		return fmt.Errorf("family is %d: want 4 or 6", f)
	}
	return nil
}
