//go:build !embedagent

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"sync"

	"runbook/engine"
	"runbook/node/ssh"
)

// A build without make holds no agent. It can be one itself, where the node is
// of its own platform.

func agentFor(platform string) (ssh.Agent, error) {
	if own := runtime.GOOS + "/" + runtime.GOARCH; platform != own {
		return ssh.Agent{}, &engine.Error{
			Code: engine.Unreachable, Cause: "this development build of " + own + " carries no agent for " + platform,
			Hint: "build with make",
		}
	}
	return self()
}

var self = sync.OnceValues(func() (ssh.Agent, error) {
	path, err := os.Executable()
	if err != nil {
		return ssh.Agent{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ssh.Agent{}, err
	}
	compressed := sync.OnceValues(func() ([]byte, error) { return compress(b) }) // most runs need none: their nodes have it
	return ssh.Agent{Gzip: compressed, SHA256: fmt.Sprintf("%x", sha256.Sum256(b))}, nil
})

func compress(b []byte) ([]byte, error) {
	var gz bytes.Buffer
	w, err := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return gz.Bytes(), err
}
