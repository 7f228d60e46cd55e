// Command runbook-agent serves the kernel of its machine on stdin and stdout.
// It is started over SSH, opens no port, and exits with its controller. It
// starts itself again as the guardian that outlives it. See runbook/node/agent
// and runbook/node/guard.
package main

import "runbook/node/agent/program"

func main() { program.Main() }
