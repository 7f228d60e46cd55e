package inventory

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"runbook/engine"
	"runbook/inventory/python"
)

// This file finds the hosts that an ssh_config names. How each is reached is not
// read here: ssh itself is asked, when it is.

// SSHConfig is what an inventory's name begins with that is an ssh_config:
// ssh_config:PATH, or ssh_config: for the user's own.
const SSHConfig = "ssh_config:"

// userConfig is the user's own.
const userConfig = "~/.ssh/config"

// maxIncludes is how deep files may include each other, as in ssh.
const maxIncludes = 16

// sshHosts collects the names of hosts.
type sshHosts struct {
	src      *source
	config   string // for SSH.Config: "" is the user's and the system's
	unusable []string
	at       string
}

// readSSHConfig reads the hosts of an ssh_config.
func readSSHConfig(name, file string) (*source, error) {
	h := &sshHosts{src: &source{file: name}}
	if file == "" {
		file = userConfig
	} else {
		h.config = file
	}
	full, err := homePath(file)
	if err == nil {
		full, err = filepath.Abs(full)
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	if h.config != "" {
		h.config = full
	}
	if err := h.read(full, file, nil, 0); err != nil {
		return nil, err
	}
	if len(h.unusable) > 0 {
		h.src.warnings = append(h.src.warnings, fmt.Sprintf("%s: hosts whose names no node can have are left out: %s", h.at, some(h.unusable, 5)))
	}
	if len(h.src.nodes.list) == 0 {
		return nil, &engine.Error{Code: engine.Invalid, Pos: file + ":1:1", Cause: "the ssh_config names no hosts", Hint: "nodes are what stands after Host without * and ?"}
	}
	return h.src, nil
}

// read reads a file. within is the patterns of the Host line that includes it; nil: none.
func (h *sshHosts) read(full, shown string, within []string, depth int) error {
	text, err := readFile(full)
	if err != nil {
		return unreadable(shown, err)
	}
	return h.lines(text, shown, within, depth)
}

// lines reads the lines of a file.
func (h *sshHosts) lines(text []byte, shown string, within []string, depth int) error {
	patterns := within
	number := 0
	for line := range bytes.Lines(text) {
		number++
		pos := fmt.Sprintf("%s:%d:%d", shown, number, 1+len(line)-len(bytes.TrimLeft(line, " \t")))
		words, err := configLine(string(line))
		if err != nil {
			return invalid(pos, "", "%v", err)
		}
		if len(words) < 2 {
			continue
		}
		switch strings.ToLower(words[0]) {
		case "host":
			patterns = words[1:]
			for _, p := range patterns {
				h.host(p, pos, within)
			}
		case "match":
			patterns = nil
			if strings.ToLower(words[1]) != "all" {
				patterns = []string{"!*"} // what it includes holds sometimes: it names nobody
			}
		case "include":
			for _, p := range words[1:] {
				if err := h.include(p, pos, patterns, depth); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// configLine splits a line of an ssh_config: a keyword, a space or "=", its arguments.
func configLine(line string) ([]string, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil, nil
	}
	i := strings.IndexAny(line, " \t=\"")
	if i < 0 {
		return []string{line}, nil
	}
	key, rest := line[:i], strings.TrimLeft(line[i:], " \t")
	rest = strings.TrimPrefix(rest, "=")
	switch strings.ToLower(key) {
	case "host", "match", "include":
	default:
		return []string{key}, nil
	}
	words, err := python.Split(rest, true)
	out := []string{key}
	for _, w := range words {
		out = append(out, w.Text)
	}
	return out, err
}

// host enters a host, unless the name is a pattern or never holds.
func (h *sshHosts) host(name, pos string, within []string) {
	if strings.ContainsAny(name, "*?!") || within != nil && !matches(within, name) {
		return
	}
	if badName(name) != "" {
		if h.at == "" {
			h.at = pos
		}
		h.unusable = append(h.unusable, name)
		return
	}
	m := h.src.node(named{name, pos})
	m.ssh.Host, m.ssh.Config = name, h.config
}

// matches reports whether a Host line with these patterns is about name.
func matches(patterns []string, name string) bool {
	found := false
	for _, p := range patterns {
		negated := strings.HasPrefix(p, "!")
		// In ssh's patterns * and ? are all there is.
		p = strings.NewReplacer("[", `\[`, `\`, `\\`).Replace(strings.TrimPrefix(p, "!"))
		if ok, _ := path.Match(p, name); ok {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// include reads the files that a pattern names. Relative ones lie in ~/.ssh.
func (h *sshHosts) include(pattern, pos string, within []string, depth int) error {
	if depth++; depth > maxIncludes {
		return invalid(pos, "", "files include each other more than %d deep", maxIncludes)
	}
	full, err := homePath(pattern)
	if err != nil {
		return invalid(pos, "write the path in full", "%v", err)
	}
	if !filepath.IsAbs(full) {
		home, err := os.UserHomeDir()
		if err != nil {
			return invalid(pos, "", "%s needs a home: %v", pattern, err)
		}
		full = filepath.Join(home, ".ssh", full)
	}
	files, err := filepath.Glob(full)
	if err != nil {
		return invalid(pos, "", "%s is no pattern of files", pattern)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.IsDir() {
			continue
		}
		if err := h.read(f, f, within, depth); err != nil {
			return err
		}
	}
	return nil
}
