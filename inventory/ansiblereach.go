package inventory

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"runbook/engine"
)

// This file makes settings of the variables that say how Ansible reaches a host.
// What has no counterpart here is a problem of that node, which cannot be used then,
// where it decides which machine is reached and as whom; else it is noted.

// reach returns what vars, all that is said of m, come to.
func (a *ansible) reach(m *member, vars map[string]any) settings {
	s := scope{ansible: a, m: m, vars: vars, used: map[string]bool{}}
	out := settings{}
	s.connection()
	out.ssh = s.ssh()
	out.become = s.become()
	out.problem = s.problem
	out.vars = s.others()
	return out
}

// scope is one host with its variables.
type scope struct {
	*ansible
	m       *member
	vars    map[string]any // name to placed
	used    map[string]bool
	problem *engine.Error // the first
}

// fail notes why the node cannot be reached.
func (s *scope) fail(pos, hint, format string, args ...any) {
	if s.problem == nil {
		s.problem = problem(s.m, pos, hint, format, args...)
	}
}

// setting is the value of a variable that says how a host is reached.
type setting struct {
	name, pos string
	text      string // numbers and booleans too
}

// one returns the setting that one of names gives, the last of them that is there,
// as Ansible does. What cannot be known of it is a problem.
func (s *scope) one(names ...string) (setting, bool) {
	var out setting
	found := false
	for _, name := range names {
		p, ok := s.vars[name].(placed)
		if !ok {
			continue
		}
		s.used[name] = true
		v, why := s.plain(p.value, 0)
		out, found = setting{name: name, pos: p.pos}, true
		switch v := v.(type) {
		case string:
			out.text = strings.TrimSpace(v)
		case int64:
			out.text = strconv.FormatInt(v, 10)
		case bool:
			out.text = strconv.FormatBool(v)
		case nil:
			if why == "" {
				found = false // as if it were not there
			}
		default:
			why = "neither text nor a number"
		}
		if why != "" {
			s.fail(p.pos, "write its value plainly", "how it is reached depends on %s, which is %s", name, why)
			found = false
		}
	}
	if found && out.text == "" {
		found = false
	}
	return out, found
}

// connections are the names of Ansible's connections that are SSH.
var connections = []string{"ssh", "smart", "paramiko", "paramiko_ssh", "libssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh"}

// connection looks at the kind of connection.
func (s *scope) connection() {
	if c, ok := s.one("ansible_connection"); ok && !slices.Contains(connections, c.text) {
		s.fail(c.pos, "leave it out of the selection: not "+s.m.name, "ansible_connection is %s, and runbook reaches nodes by ssh only", c.text)
	}
	for _, name := range secrets {
		if p, ok := s.vars[name].(placed); ok {
			s.used[name] = true
			if p.value != nil && p.value != "" {
				s.notes.add("passwords are not used, for runbook logs in with keys and has sudo ask nothing: %s", name, p.pos)
			}
		}
	}
	if c, ok := s.one("ansible_host_key_checking", "ansible_ssh_host_key_checking"); ok && !isTrue(c.text) {
		s.notes.add(uncheckedNote, c.name, c.pos)
	}
}

// uncheckedNote is about what turns off the check of host keys.
const uncheckedNote = "host keys are always checked against known_hosts, whatever is said by %s"

// secrets are the variables that hold passwords.
var secrets = []string{
	"ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_become_password", "ansible_become_pass", "ansible_sudo_pass", "ansible_su_pass",
	"ansible_ssh_private_key_passphrase", "ansible_private_key_passphrase",
}

// ssh returns how the node is reached.
func (s *scope) ssh() SSH {
	var out SSH
	if v, ok := s.one("ansible_host", "ansible_ssh_host"); ok {
		if _, err := netip.ParseAddr(v.text); err != nil && !nameForm.MatchString(v.text) {
			s.fail(v.pos, "", "%s: %q is neither an address nor a name", v.name, v.text)
		}
		out.Host = v.text
	}
	if v, ok := s.one("ansible_port", "ansible_ssh_port"); ok {
		out.Port = s.port(v)
	}
	if v, ok := s.one("ansible_user", "ansible_ssh_user"); ok {
		out.User = s.word(v)
	}
	if v, ok := s.one("ansible_private_key_file", "ansible_ssh_private_key_file"); ok {
		out.Identity = s.paths(v)
	}
	for _, name := range []string{"ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"} {
		if v, ok := s.one(name); ok {
			s.arguments(v, &out)
		}
	}
	return out
}

func (s *scope) port(v setting) int {
	n, err := strconv.Atoi(v.text)
	if err != nil || n < 1 || n > math.MaxUint16 {
		s.fail(v.pos, "", "%s: want a number from 1 to 65535, got %q", v.name, v.text)
	}
	return n
}

// word checks what may end up as an argument of ssh.
func (s *scope) word(v setting) string {
	if !isWord(v.text) {
		s.fail(v.pos, "", `%s: want a word without spaces that does not begin with "-", got %q`, v.name, v.text)
	}
	return v.text
}

// paths returns a path as Ansible means it: relative to where it is run.
func (s *scope) paths(v setting) []string {
	path, err := homePath(v.text)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		s.fail(v.pos, "write the path in full", "%s: %v", v.name, err)
	}
	return []string{path}
}

// homePath is path with the home for a ~ before it.
func homePath(path string) (string, error) {
	if path != "~" && !strings.HasPrefix(path, "~") {
		return path, nil
	}
	if path != "~" && !strings.HasPrefix(path, "~/") {
		return "", engine.Invalid.Errorf("%s is in another user's home, which is not looked up", path)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", engine.Invalid.Errorf("%s needs a home: %w", path, err)
	}
	return filepath.Join(home, path[1:]), nil
}

// isTrue and isFalse are what Ansible takes for booleans.
func isTrue(text string) bool {
	return slices.Contains([]string{"y", "yes", "on", "1", "true", "t"}, strings.ToLower(text))
}

func isFalse(text string) bool {
	return slices.Contains([]string{"n", "no", "off", "0", "false", "f"}, strings.ToLower(text))
}

// become returns as whom the agent works.
func (s *scope) become() Become {
	want, ok := s.one("ansible_become")
	method, hasMethod := s.one("ansible_become_method")
	user, hasUser := s.one("ansible_become_user")
	switch {
	case !ok:
		return ""
	case isFalse(want.text):
		return BecomeNone
	case !isTrue(want.text):
		s.fail(want.pos, "write true or false", "ansible_become: %q is neither true nor false", want.text)
	case hasMethod && method.text != "sudo" && method.text != "ansible.builtin.sudo":
		s.fail(method.pos, "", "ansible_become_method is %s, and runbook becomes another user by sudo only", method.text)
	case hasUser && user.text != "root":
		s.fail(user.pos, "", "ansible_become_user is %s, and runbook becomes root only", user.text)
	}
	return BecomeSudo
}

// leftOut is about variables that scripts do not see.
const leftOut = "variables that cannot be known here, so that scripts do not see them (templates, vault-encrypted values): %s"

// others returns the variables that say nothing of how the host is reached.
func (s *scope) others() map[string]any {
	var out map[string]any
	var left []string
	for name, v := range s.vars {
		p, ok := v.(placed)
		if !ok || s.used[name] {
			continue
		}
		value, why := s.plain(p.value, 0)
		if why != "" {
			left = append(left, name)
			continue
		}
		if out == nil {
			out = make(map[string]any, len(s.vars))
		}
		out[name] = value
	}
	slices.Sort(left)
	for _, name := range left {
		s.notes.add(leftOut, name, s.vars[name].(placed).pos) // it was one above
	}
	return out
}
