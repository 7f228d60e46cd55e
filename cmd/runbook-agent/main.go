// Command runbook-agent serves the kernel of its machine on stdin and stdout.
// It is started over SSH, takes no arguments, opens no port, and exits with
// its controller. See runbook/node/agent.
package main

import "runbook/node/agent/program"

func main() { program.Main() }
