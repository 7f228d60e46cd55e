package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"runbook/engine"
)

// offer is the keys that one connection offers. Each costs a round trip, and a
// server takes six by default, so the likeliest come first.
type offer struct {
	settings settings
	socket   net.Conn // to ssh-agent, while it may be asked to sign
	tried    []string // for the error
	locked   []string // key files that have a passphrase
	missing  []string // key files that are not there
	problems []string
}

func (o *offer) close() {
	if o.socket != nil {
		o.socket.Close()
	}
}

// signers are the keys to try: those of the identity files, where ssh-agent
// has them from there, then the others of ssh-agent.
func (o *offer) signers() ([]ssh.Signer, error) {
	held := o.fromAgent()
	var out []ssh.Signer
	used := map[string]bool{}
	for _, file := range o.settings.identities {
		key, err := readKey(file)
		if errors.Is(err, fs.ErrNotExist) { // most of those that ssh would try are not
			o.missing = append(o.missing, file)
			continue
		}
		if err != nil {
			o.problems = append(o.problems, err.Error())
			continue
		}
		signer := key.signer
		for _, h := range held {
			if key.public != nil && bytes.Equal(h.PublicKey().Marshal(), key.public.Marshal()) {
				signer = h
			}
		}
		if signer == nil {
			o.locked = append(o.locked, file)
			continue
		}
		out = append(out, signer)
		used[string(signer.PublicKey().Marshal())] = true
		o.tried = append(o.tried, file)
	}
	if o.settings.identitiesOnly {
		return out, nil
	}
	for _, h := range held {
		if !used[string(h.PublicKey().Marshal())] {
			out = append(out, h)
			o.tried = append(o.tried, "ssh-agent's "+ssh.FingerprintSHA256(h.PublicKey()))
		}
	}
	return out, nil
}

// fromAgent asks ssh-agent for its keys. One that does not answer has none.
func (o *offer) fromAgent() []ssh.Signer {
	if o.settings.agentSocket == "" {
		return nil
	}
	socket, err := net.DialTimeout("unix", o.settings.agentSocket, 2*time.Second)
	if err != nil {
		o.problems = append(o.problems, fmt.Sprintf("ssh-agent: %v", err))
		return nil
	}
	socket.SetDeadline(time.Now().Add(connectTime))
	o.socket = socket
	held, err := sshagent.NewClient(socket).Signers()
	if err != nil {
		o.problems = append(o.problems, fmt.Sprintf("ssh-agent: %v", err))
	}
	return held
}

// explain turns a failed handshake into an error that says what was offered.
func (o *offer) explain(err error) error {
	s := o.settings
	if !strings.Contains(err.Error(), "unable to authenticate") {
		e := engine.Unreachable.Errorf("the handshake with %s failed: %s", s.addr(), strings.TrimPrefix(err.Error(), "ssh: handshake failed: "))
		e.Err = err
		return e
	}
	e := &engine.Error{Code: engine.Unreachable, Err: err}
	if len(o.tried) > 0 {
		e.Cause = fmt.Sprintf("%s does not let %s in with any of: %s", s.addr(), s.user, strings.Join(o.tried, ", "))
		e.Hint = fmt.Sprintf("add one of these keys to the authorized_keys of %s there, or say which key to use", s.user)
	} else {
		e.Cause = fmt.Sprintf("there is no key to log in to %s with as %s", s.addr(), s.user)
		e.Hint = "add a key to ssh-agent, or name a key file that needs no passphrase"
	}
	if len(o.locked) > 0 {
		e.Hint = fmt.Sprintf("%s has a passphrase: add it to ssh-agent first (ssh-add %s)", o.locked[0], o.locked[0])
	}
	if len(o.missing) > 0 && (len(o.tried) == 0 || s.identitiesOnly) {
		o.problems = append(o.problems, "there is no "+strings.Join(o.missing, ", no "))
	}
	if len(o.problems) > 0 {
		e.Cause += "; " + strings.Join(o.problems, "; ")
	}
	return e
}

// key is a private key in a file. signer is nil where it has a passphrase.
type key struct {
	signer ssh.Signer
	public ssh.PublicKey // nil where it is not known
	stamp  string
}

var (
	keysMu sync.Mutex
	keys   = map[string]key{} // by file: reading an RSA key takes milliseconds
)

// readKey reads a private key, with its certificate where it has one.
func readKey(file string) (key, error) {
	info, err := os.Stat(file)
	if err != nil {
		return key{}, err
	}
	stamp := fmt.Sprint(info.ModTime().UnixNano(), info.Size())
	keysMu.Lock()
	defer keysMu.Unlock()
	if k, ok := keys[file]; ok && k.stamp == stamp {
		return k, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return key{}, err
	}
	k := key{stamp: stamp}
	var locked *ssh.PassphraseMissingError
	switch k.signer, err = ssh.ParsePrivateKey(b); {
	case errors.As(err, &locked):
		k.signer, k.public = nil, locked.PublicKey
		if k.public == nil {
			k.public = readPublic(file + ".pub")
		}
	case err != nil:
		return key{}, fmt.Errorf("%s: %w", file, err)
	default:
		k.public = k.signer.PublicKey()
		if cert, ok := readPublic(file + "-cert.pub").(*ssh.Certificate); ok {
			if signer, err := ssh.NewCertSigner(cert, k.signer); err == nil {
				k.signer = signer
			}
		}
	}
	keys[file] = k
	return k, nil
}

// readPublic reads a public key or a certificate; nil where there is none.
func readPublic(file string) ssh.PublicKey {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	k, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil
	}
	return k
}
