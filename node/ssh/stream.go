package ssh

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"runbook/engine"
)

// lastWords is how much of the agent's stderr is kept, in bytes.
const lastWords = 1024

// stream is the stdin and stdout of the agent. It is used from the moment at
// which the agent is asked to start: what is written before it runs is written
// again, should it have to be installed first. So a connection to a node that
// has its agent waits for nothing, and no other code knows of installing.
type stream struct {
	target Target
	addr   string
	user   string
	conn   *connection
	lines  lines

	mu      sync.Mutex
	session *session
	sent    []byte // until the agent runs
	running bool

	out       *bufio.Reader // only Read uses it
	installed bool          // only Read uses it
}

// session is one execution on the node.
type session struct {
	ssh.Channel
	ended  chan struct{} // closed when the status and all of stderr have come
	mu     sync.Mutex
	stderr []byte
	status string // "status 127", "signal KILL"
}

// exec starts line on the node, without waiting for an answer.
func (s *stream) exec(line string) (*session, error) {
	channel, requests, err := s.conn.OpenChannel("session", nil)
	if err != nil {
		return nil, fmt.Errorf("open a session on %s: %w", s.addr, err)
	}
	e := &session{Channel: channel, ended: make(chan struct{})}
	var parts sync.WaitGroup
	parts.Go(func() { e.followStatus(requests) })
	parts.Go(e.followStderr)
	go func() {
		parts.Wait()
		close(e.ended)
	}()
	_, err = channel.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{line}))
	if err != nil {
		channel.Close()
		return nil, fmt.Errorf("run a command on %s: %w", s.addr, err)
	}
	return e, nil
}

func (e *session) followStatus(requests <-chan *ssh.Request) {
	for r := range requests {
		e.mu.Lock()
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				e.status = fmt.Sprintf("status %d", m.Status)
			}
		case "exit-signal":
			var m struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				e.status = "signal " + m.Signal
			}
		}
		e.mu.Unlock()
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
}

func (e *session) followStderr() {
	buf := make([]byte, lastWords)
	for {
		n, err := e.Stderr().Read(buf)
		e.mu.Lock()
		e.stderr = append(e.stderr, buf[:n]...)
		e.stderr = slices.Clone(e.stderr[max(0, len(e.stderr)-lastWords):])
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// last waits for the end of the session, and returns its status and its stderr.
func (e *session) last() (status, words string) {
	select {
	case <-e.ended:
	case <-time.After(time.Second):
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status, strings.TrimSpace(string(bytes.ToValidUTF8(e.stderr, nil)))
}

// start asks for the agent.
func (s *stream) start() error {
	e, err := s.exec(s.lines.start)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = e
	s.out = bufio.NewReaderSize(e, 512)
	if len(s.sent) > 0 {
		_, err = e.Write(s.sent)
	}
	return err
}

// Write implements io.Writer.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	e, running := s.session, s.running
	if running {
		s.mu.Unlock()
		return e.Write(b)
	}
	defer s.mu.Unlock()
	s.sent = append(s.sent, b...)
	e.Write(b) // if it fails, Read learns why, and may install the agent and write it again
	return len(b), nil
}

// Read implements io.Reader. The first one sees to it that the agent runs.
func (s *stream) Read(b []byte) (int, error) {
	if !s.running { // set by Read alone
		if err := s.run(); err != nil {
			return 0, err
		}
	}
	n, err := s.out.Read(b)
	if err == io.EOF {
		status, words := s.session.last()
		return n, ended(engine.Unreachable.Errorf("the agent at %s has ended", s.addr), status, words)
	}
	return n, err
}

// ended adds to e how a session ended.
func ended(e *engine.Error, status, words string) error {
	if status != "" {
		e.Cause += " (" + status + ")"
	}
	if words != "" {
		e.Cause += ": " + words
	}
	return e
}

// run returns when the agent has written its first byte.
func (s *stream) run() error {
	for {
		first, err := s.out.Peek(1)
		if err != nil {
			return s.died(err)
		}
		if first[0] == 0 {
			s.mu.Lock()
			s.running, s.sent = true, nil
			s.mu.Unlock()
			s.conn.eager.relaxed.Store(true)
			return nil
		}
		line, _ := s.out.ReadString('\n') // its end is seen by the next Peek
		machine, need := strings.CutPrefix(strings.TrimSpace(line), sayNeed+" ")
		if !need {
			e := engine.Unreachable.Errorf("the login shell of %s at %s prints %.80q before the agent can start", s.user, s.addr, strings.TrimSpace(line))
			e.Hint = "let its startup files print in interactive shells only"
			return e
		}
		if s.installed {
			return engine.Unreachable.Errorf("the agent was installed at %s, and is not there", s.addr)
		}
		s.installed = true
		if err := s.install(machine); err != nil {
			return err
		}
		if err := s.start(); err != nil {
			return err
		}
	}
}

// install puts the agent on the node.
func (s *stream) install(machine string) error {
	a, ok := s.lines.agents[machine]
	if !ok {
		for _, p := range platforms {
			if p.machine == machine {
				return engine.Unreachable.Errorf("%s is %s, and this build of runbook carries no agent for it", s.addr, machine)
			}
		}
		return engine.Unreachable.Errorf("%s is %s: there are agents for Linux on x86_64 and aarch64 only", s.addr, machine)
	}
	compressed, err := a.Gzip()
	if err != nil {
		return err
	}
	e, err := s.exec(s.lines.install[machine])
	if err != nil {
		return err
	}
	defer e.Close()
	if _, err := e.Write(compressed); err == nil {
		e.CloseWrite()
	} // else it ended before it read all, and says why
	out, err := io.ReadAll(io.LimitReader(e, lastWords))
	if err != nil {
		return err
	}
	status, words := e.last()
	said := strings.TrimSpace(string(out))
	switch {
	case strings.HasSuffix(said, sayDone):
		return nil
	case strings.HasSuffix(said, sayNowhere):
		e := engine.Unreachable.Errorf("%s has no folder to put the agent in: one of %s and in which files can be executed", s.addr, s.folders())
		e.Hint = "make one of them, or mount it without noexec"
		return e
	}
	if err := s.sudoRefused(words); err != nil {
		return err
	}
	return ended(engine.Unreachable.Errorf("the agent could not be installed at %s", s.addr), status, strings.TrimSpace(said+" "+words))
}

func (s *stream) folders() string {
	if s.target.Become == "" {
		return fmt.Sprintf("~/.cache, /run/user/UID and /var/tmp that is the own one of %s", s.user)
	}
	return "/var/lib that is root's"
}

// died says why no agent came.
func (s *stream) died(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	status, words := s.session.last()
	if err := s.sudoRefused(words); err != nil {
		return err
	}
	if status == "" && words == "" {
		return engine.Unreachable.Errorf("%s ended the connection before the agent started", s.addr)
	}
	return ended(engine.Unreachable.Errorf("the agent at %s did not start", s.addr), status, words)
}

// sudoRefused recognizes what sudo says when it will not.
func (s *stream) sudoRefused(words string) error {
	if s.target.Become != "sudo" {
		return nil
	}
	var e *engine.Error
	switch {
	case strings.Contains(words, "password is required"), strings.Contains(words, "terminal is required"):
		e = engine.Unreachable.Errorf("sudo at %s wants a password of %s", s.addr, s.user)
	case strings.Contains(words, "not in the sudoers"), strings.Contains(words, "not allowed to"):
		e = engine.Unreachable.Errorf("sudo at %s does not let %s become root", s.addr, s.user)
	case strings.Contains(words, "sudo: not found"), strings.Contains(words, "sudo: command not found"):
		e = engine.Unreachable.Errorf("%s has no sudo", s.addr)
		e.Hint = "log in as root, and leave become out"
		return e
	default:
		return nil
	}
	e.Hint = fmt.Sprintf("let %s run /bin/sh and /var/lib/runbook/agent-* as root without one: NOPASSWD in sudoers", s.user)
	return e
}

// Close implements io.Closer. It ends the connection; the agent sees the end of its stdin.
func (s *stream) Close() error {
	s.conn.close()
	return nil
}
