//go:build linux

package nodetest_test

import (
	"runbook/node/nodetest"
	"testing"
)

func TestConf(t *testing.T) { nodetest.Run(t, kernel) }
