package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/kevinburke/ssh_config"
)

// settings is what Target and the user's configuration say together.
type settings struct {
	name           string // as the host was asked for
	host           string
	port           int
	user           string
	identities     []string
	identitiesOnly bool
	agentSocket    string // of ssh-agent; "": none
	knownHosts     []string
	hostKeyAlias   string
	jump           string // [user@]host[:port],…; "": none
	command        string // ProxyCommand; "": none
}

func (s settings) addr() string { return joinPort(s.host, s.port) }

// settingsOf resolves t.
func settingsOf(ctx context.Context, t Target) (settings, error) {
	if err := checkWord("host", t.Host); err != nil {
		return settings{}, err
	}
	if t.User != "" {
		if err := checkWord("user", t.User); err != nil {
			return settings{}, err
		}
	}
	words, err := wordsOf(ctx, t)
	if err != nil {
		return settings{}, err
	}
	s := settings{
		name:           t.Host,
		host:           first(words["hostname"], t.Host),
		port:           t.Port,
		user:           first([]string{t.User}, first(words["user"], "")),
		identitiesOnly: first(words["identitiesonly"], "") == "yes",
		agentSocket:    os.Getenv("SSH_AUTH_SOCK"),
		hostKeyAlias:   first(words["hostkeyalias"], ""),
		jump:           first([]string{t.ProxyJump}, first(words["proxyjump"], "")),
	}
	if s.port == 0 {
		if s.port, err = strconv.Atoi(first(words["port"], "22")); err != nil {
			return s, fmt.Errorf("port %q of host %s is no number", words["port"][0], t.Host)
		}
	}
	if s.user == "" {
		u, err := user.Current()
		if err != nil {
			return s, fmt.Errorf("the user to log in as: %w", err)
		}
		s.user = u.Username
	}
	if s.jump == "" {
		s.command = first(words["proxycommand"], "")
	}
	if s.jump == "none" {
		s.jump = ""
	}
	if s.command == "none" {
		s.command = ""
	}
	s.chooseFiles(t, words)
	return s, nil
}

// chooseFiles fills in the files of keys, and ssh-agent's socket.
func (s *settings) chooseFiles(t Target, words map[string][]string) {
	identities := words["identityfile"]
	if len(identities) == 0 {
		identities = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	if len(t.IdentityFiles) > 0 {
		identities, s.identitiesOnly = t.IdentityFiles, true
	}
	known := t.KnownHosts
	if len(known) == 0 {
		for _, list := range append(words["userknownhostsfile"], words["globalknownhostsfile"]...) {
			known = append(known, strings.Fields(list)...)
		}
	}
	if len(known) == 0 {
		known = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	}
	for _, f := range identities {
		s.identities = append(s.identities, s.expand(f))
	}
	for _, f := range known {
		s.knownHosts = append(s.knownHosts, s.expand(f))
	}
	switch socket := first(words["identityagent"], ""); {
	case socket == "none":
		s.agentSocket = ""
	case socket == "" || socket == "SSH_AUTH_SOCK":
	case strings.HasPrefix(socket, "$"):
		s.agentSocket = os.Getenv(strings.Trim(socket, "${}"))
	default:
		s.agentSocket = s.expand(socket)
	}
}

// expand replaces ~ and the tokens of ssh_config(5) that a file name may have.
func (s *settings) expand(text string) string {
	home, _ := os.UserHomeDir()
	text = strings.Trim(text, `"`)
	if rest, ok := strings.CutPrefix(text, "~/"); ok {
		text = filepath.Join(home, rest)
	}
	return s.tokens(text, "%d", home)
}

// tokens replaces the tokens of ssh_config(5), and those in more.
func (s *settings) tokens(text string, more ...string) string {
	name, _ := os.Hostname()
	local, _, _ := strings.Cut(name, ".")
	me := ""
	if strings.Contains(text, "%u") {
		if u, err := user.Current(); err == nil {
			me = u.Username
		}
	}
	pairs := append([]string{
		"%%", "%", "%h", s.host, "%n", s.name, "%p", strconv.Itoa(s.port), "%r", s.user,
		"%u", me, "%l", name, "%L", local, "%k", first([]string{s.hostKeyAlias}, s.name),
	}, more...)
	return strings.NewReplacer(pairs...).Replace(text)
}

// first is the first of words, if it says anything, or else otherwise.
func first(words []string, otherwise string) string {
	if len(words) > 0 && words[0] != "" {
		return words[0]
	}
	return otherwise
}

// checkWord refuses what cannot be part of an address, for it ends up in
// arguments of ssh and, by a ProxyCommand of the user's, in a shell.
func checkWord(what, word string) error {
	bad := strings.ContainsFunc(word, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune("'\"`$\\;&|<>(){}*?!#~", r)
	})
	if word == "" || word[0] == '-' || bad {
		return fmt.Errorf("%q cannot be a %s", word, what)
	}
	return nil
}

// configKey is what an answer of ssh -G depends on.
type configKey struct {
	file, host, user string
	port             int
}

type configEntry struct {
	mu    sync.Mutex // held while ssh runs
	words map[string][]string
}

// configs holds what was found out: ssh is run at most once for a host.
var configs sync.Map // configKey to *configEntry

// wordsOf returns the configuration of the host by its keywords, in lower case.
func wordsOf(ctx context.Context, t Target) (map[string][]string, error) {
	if t.ConfigFile == "none" {
		return nil, nil
	}
	key := configKey{t.ConfigFile, t.Host, t.User, t.Port}
	v, _ := configs.LoadOrStore(key, &configEntry{})
	e := v.(*configEntry)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.words != nil {
		return e.words, nil
	}
	var words map[string][]string
	program, err := exec.LookPath("ssh")
	if err == nil {
		words, err = askSSH(ctx, program, key)
	} else {
		words, err = readConfig(key)
	}
	if err != nil {
		return nil, err
	}
	e.words = words
	return words, nil
}

// askSSH runs ssh -G.
func askSSH(ctx context.Context, program string, key configKey) (map[string][]string, error) {
	args := []string{"-G"}
	if key.file != "" {
		args = append(args, "-F", key.file)
	}
	if key.port != 0 {
		args = append(args, "-p", strconv.Itoa(key.port))
	}
	if key.user != "" {
		args = append(args, "-l", key.user)
	}
	cmd := exec.CommandContext(ctx, program, append(args, "--", key.host)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ssh -G %s: %w: %s", key.host, err, bytes.TrimSpace(stderr.Bytes()))
	}
	words := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		words[strings.ToLower(k)] = append(words[strings.ToLower(k)], v)
	}
	return words, nil
}

// readConfig reads the configuration where no ssh is installed. It knows less
// than ssh does: no Match exec, no canonical names.
func readConfig(key configKey) (map[string][]string, error) {
	files := []string{key.file}
	if key.file == "" {
		home, _ := os.UserHomeDir()
		files = []string{filepath.Join(home, ".ssh", "config"), "/etc/ssh/ssh_config"}
	}
	words := map[string][]string{}
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) && key.file == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		config, err := ssh_config.Decode(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, k := range []string{
			"HostName", "Port", "User", "IdentityFile", "IdentitiesOnly", "IdentityAgent",
			"UserKnownHostsFile", "GlobalKnownHostsFile", "HostKeyAlias", "ProxyJump", "ProxyCommand",
		} {
			values, err := config.GetAll(key.host, k)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			words[strings.ToLower(k)] = append(words[strings.ToLower(k)], values...)
		}
	}
	for i, h := range words["hostname"] {
		words["hostname"][i] = strings.NewReplacer("%%", "%", "%h", key.host, "%n", key.host).Replace(h)
	}
	return words, nil
}
