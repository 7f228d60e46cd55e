//go:build !linux

package incident

import (
	"context"

	"runbook/lab"
)

func watchLink(context.Context, *lab.NetNS, string, func()) error { return lab.Probe() }
