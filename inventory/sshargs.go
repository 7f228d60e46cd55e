package inventory

import (
	"slices"
	"strings"
	"unicode"

	"runbook/inventory/python"
)

// This file reads the arguments that Ansible would give to ssh.

// harmless are the options of ssh that do not decide which machine is reached or as whom.
var harmless = strings.Fields("controlmaster controlpersist controlpath serveraliveinterval serveralivecountmax connecttimeout connectionattempts " +
	"compression preferredauthentications forwardagent forwardx11 loglevel batchmode tcpkeepalive gssapiauthentication kbdinteractiveauthentication " +
	"challengeresponseauthentication passwordauthentication pubkeyauthentication numberofpasswordprompts pubkeyacceptedkeytypes pubkeyacceptedalgorithms " +
	"hostkeyalgorithms kexalgorithms ciphers macs addkeystoagent updatehostkeys visualhostkey requesttty addressfamily checkhostip identitiesonly ipqos " +
	"rekeylimit sendenv hashknownhosts globalknownhostsfile exitonforwardfailure")

// flags are the options of one letter that do not either.
const harmlessFlags = "CqvTtAaxX46n"

// arguments gives to what the arguments in v say. A setting of its own counts more;
// where the two differ, nobody can know which was meant.
func (s *scope) arguments(v setting, to *SSH) {
	words, err := python.Split(v.text, false)
	if err != nil {
		s.fail(v.pos, "", "%s: %v", v.name, err)
		return
	}
	for i := 0; i < len(words); i++ {
		w := words[i].Text
		if len(w) < 2 || w[0] != '-' {
			s.fail(v.pos, "", "%s: %q is no option of ssh", v.name, w)
			return
		}
		if strings.Trim(w[1:], harmlessFlags) == "" {
			continue
		}
		letter, value := w[1], w[2:]
		if strings.IndexByte("oJilpF", letter) < 0 {
			s.fail(v.pos, "say it in your ssh_config, which runbook reads", "%s: what ssh makes of %s has no counterpart in an inventory", v.name, w)
			return
		}
		if value == "" {
			if i++; i == len(words) {
				s.fail(v.pos, "", "%s: %s needs a value", v.name, w)
				return
			}
			value = words[i].Text
		}
		key := map[byte]string{'J': "ProxyJump", 'i': "IdentityFile", 'l': "User", 'p': "Port", 'F': "-F"}[letter]
		if letter == 'o' {
			key, value = option(value)
		}
		s.option(setting{v.name + ": " + key, v.pos, value}, strings.ToLower(key), to)
	}
}

// option splits what stands after -o: Key=value or "Key value".
func option(text string) (key, value string) {
	i := strings.IndexFunc(text, func(c rune) bool { return c == '=' || unicode.IsSpace(c) })
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.Trim(strings.TrimLeft(text[i:], "= \t"), `"`)
}

// option gives to what one option says.
func (s *scope) option(v setting, key string, to *SSH) {
	switch key {
	case "proxyjump":
		s.text(v, &to.ProxyJump, s.word(v))
	case "proxycommand":
		jump, ok := "none", true
		if v.text != jump {
			jump, ok = jumpOf(v.text)
		}
		if !ok {
			s.fail(v.pos, "write -J [USER@]HOST in its place, or say it in your ssh_config", "%s: %q is more than a jump host", v.name, v.text)
			return
		}
		s.text(v, &to.ProxyJump, jump)
	case "user":
		s.text(v, &to.User, s.word(v))
	case "port":
		if port := s.port(v); to.Port == 0 {
			to.Port = port
		} else if to.Port != port {
			s.fail(v.pos, "", "%s: the port is %d here and %d elsewhere", v.name, port, to.Port)
		}
	case "identityfile":
		if files := s.paths(v); to.Identity == nil {
			to.Identity = files
		} else if !slices.Equal(to.Identity, files) {
			s.fail(v.pos, "", "%s: the key is %s here and %s elsewhere", v.name, files[0], to.Identity[0])
		}
	case "-f":
		if v.text == NoConfig {
			s.text(v, &to.Config, NoConfig)
			return
		}
		s.text(v, &to.Config, s.paths(v)[0])
	case "userknownhostsfile":
		if v.text == "/dev/null" {
			s.notes.add(uncheckedNote, "UserKnownHostsFile=/dev/null", v.pos)
			return
		}
		to.KnownHosts = nil
		for _, f := range strings.Fields(v.text) {
			to.KnownHosts = append(to.KnownHosts, s.paths(setting{v.name, v.pos, f})...)
		}
	case "stricthostkeychecking":
		if v.text != "yes" && v.text != "ask" {
			s.notes.add(uncheckedNote, "StrictHostKeyChecking="+v.text, v.pos)
		}
	default:
		if !slices.Contains(harmless, key) {
			s.fail(v.pos, "say it in your ssh_config, which runbook reads", "%s has no counterpart in an inventory", v.name)
		}
	}
}

// text sets to, which must not be another already.
func (s *scope) text(v setting, to *string, text string) {
	if *to != "" && *to != text {
		s.fail(v.pos, "", "%s: it is %s here and %s elsewhere", v.name, text, *to)
	}
	*to = text
}

// jumpOf returns the jump host of a ProxyCommand that is one: ssh -W %h:%p [-q] [-p PORT] [USER@]HOST.
func jumpOf(command string) (string, bool) {
	words, err := python.Split(command, false)
	if err != nil || len(words) == 0 || words[0].Text != "ssh" {
		return "", false
	}
	host, user, port, through := "", "", "", false
	for i := 1; i < len(words); i++ {
		w := words[i].Text
		switch {
		case host != "":
			return "", false
		case !strings.HasPrefix(w, "-"):
			host = w
			continue
		case strings.Trim(w[1:], harmlessFlags) == "":
			continue
		}
		letter, value := w[:2], w[2:]
		if value == "" {
			if i++; i == len(words) {
				return "", false
			}
			value = words[i].Text
		}
		key, _ := option(value)
		switch {
		case letter == "-W" && strings.Trim(value, "[]") == "%h:%p", letter == "-W" && value == "[%h]:%p":
			through = true
		case letter == "-l":
			user = value
		case letter == "-p":
			port = value
		case letter == "-o" && slices.Contains(harmless, strings.ToLower(key)):
		default:
			return "", false
		}
	}
	if user != "" {
		host = user + "@" + host
	}
	if port != "" {
		host += ":" + port
	}
	return host, through && isWord(host)
}
