package ssh

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ed25519"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"runbook/engine"
)

// hostKeys checks the host key of one connection.
type hostKeys struct {
	settings settings
	db       *knownHosts
	refused  error // why the key was not taken
}

func hostKeysFor(s settings) (*hostKeys, error) {
	db, err := readKnownHosts(s.knownHosts)
	if err != nil {
		return nil, err
	}
	return &hostKeys{settings: s, db: db}, nil
}

// name is what the host is called in known_hosts.
func (h *hostKeys) name() string {
	if h.settings.hostKeyAlias != "" {
		return joinPort(h.settings.hostKeyAlias, 22)
	}
	return h.settings.addr()
}

// ask looks the key up. knownhosts wants a TCP address, which a conn through a
// jump host or a lab has not.
func (h *hostKeys) ask(key ssh.PublicKey) error {
	return h.db.callback(h.name(), &net.TCPAddr{IP: net.IPv4zero, Port: h.settings.port}, key)
}

// known returns the keys that known_hosts has for the host.
func (h *hostKeys) known() []knownhosts.KnownKey {
	var e *knownhosts.KeyError
	if errors.As(h.ask(h.db.probe), &e) {
		return e.Want
	}
	return nil
}

// algorithms are those to ask the host for: first those of the keys that are
// known. A host known by one key must not seem changed because it has others.
func (h *hostKeys) algorithms() []string {
	var first, rest []string
	known := map[string]bool{}
	for _, k := range h.known() {
		known[k.Key.Type()] = true
	}
	if h.db.authorities {
		first = append(first, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01,
			ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, a := range []struct{ kind, algorithm string }{
		{ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
		{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256},
		{ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384},
		{ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
	} {
		if known[a.kind] {
			first = append(first, a.algorithm)
		} else {
			rest = append(rest, a.algorithm)
		}
	}
	return append(first, rest...)
}

// check is the ssh.HostKeyCallback.
func (h *hostKeys) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	err := h.ask(key)
	if err == nil {
		return nil
	}
	addr, print := h.settings.addr(), key.Type()+" "+ssh.FingerprintSHA256(key)
	var ke *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	e := &engine.Error{Code: engine.Unreachable, Err: err}
	switch {
	case errors.As(err, &revoked):
		e.Cause = fmt.Sprintf("the host key of %s is revoked: %s", addr, print)
		e.Hint = fmt.Sprintf("%s:%d revokes it", revoked.Revoked.Filename, revoked.Revoked.Line)
	case errors.As(err, &ke) && len(ke.Want) > 0:
		w := ke.Want[0]
		for _, k := range ke.Want {
			if k.Key.Type() == key.Type() {
				w = k
			}
		}
		e.Cause = fmt.Sprintf("the host key of %s has CHANGED: it is %s, and was %s %s", addr, print, w.Key.Type(), ssh.FingerprintSHA256(w.Key))
		e.Hint = fmt.Sprintf("somebody may be in between. If the machine was set up anew, take %s:%d away", w.Filename, w.Line)
	case errors.As(err, &ke):
		e.Cause = fmt.Sprintf("the host key of %s is not known: it is %s", addr, print)
		e.Hint = "compare it with the machine's own, then add it: " + h.scan()
	default:
		e.Cause = fmt.Sprintf("the host key of %s cannot be checked: %v", addr, err)
	}
	h.refused = e
	return e
}

// scan is the command that adds the host's key to known_hosts.
func (h *hostKeys) scan() string {
	file := "~/.ssh/known_hosts"
	if len(h.settings.knownHosts) > 0 {
		file = h.settings.knownHosts[0]
	}
	return fmt.Sprintf("ssh-keyscan -p %d %s >> %s", h.settings.port, h.settings.host, file)
}

// knownHosts is the content of some known_hosts files.
type knownHosts struct {
	callback    ssh.HostKeyCallback
	probe       ssh.PublicKey // a key that no host has
	authorities bool          // some line is a certificate authority
	stamp       string        // of the files when they were read
}

var (
	knownMu    sync.Mutex
	knownFiles = map[string]*knownHosts{} // by the names of the files
)

// readKnownHosts reads files, or returns what it read of them earlier.
// Files that do not exist hold nothing.
func readKnownHosts(files []string) (*knownHosts, error) {
	var there []string
	var stamp strings.Builder
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			continue
		}
		there = append(there, f)
		fmt.Fprintf(&stamp, "%s %s %d\n", f, info.ModTime().Format(time.RFC3339Nano), info.Size())
	}
	knownMu.Lock()
	defer knownMu.Unlock()
	key := strings.Join(files, "\n")
	if db := knownFiles[key]; db != nil && db.stamp == stamp.String() {
		return db, nil
	}
	db := &knownHosts{stamp: stamp.String()}
	for _, f := range there {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		db.authorities = db.authorities || bytes.Contains(b, []byte("@cert-authority"))
	}
	var err error
	if db.callback, err = knownhosts.New(there...); err != nil {
		return nil, err
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if db.probe, err = ssh.NewPublicKey(public); err != nil {
		return nil, err
	}
	knownFiles[key] = db
	return db, nil
}
