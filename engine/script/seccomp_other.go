//go:build linux && !amd64 && !arm64

package script

import "runtime"

func seccomp() Layer {
	return Layer{Name: "seccomp", Detail: "runbook has no list of system calls for " + runtime.GOARCH}
}
