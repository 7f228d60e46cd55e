package ssh

import (
	"fmt"
	"strings"
)

// This file holds all shell that runs on a node. Each line is constant but for
// the hashes of our own agents; nothing that an operator or a runbook says gets
// into it. It works in dash, bash and busybox, and as an argument in single
// quotes for every login shell, so it has no single quotes, no newlines and no
// exclamation marks.
//
// The line that starts the agent is on the path of every connection. Where the
// agent is installed it forks nothing: a fork costs a millisecond of CPU.

// Words that the lines print for the controller. An agent's first byte is 0.
const (
	sayNeed    = "runbook-need"    // and the machine: the agent is not installed
	sayDone    = "runbook-done"    // it is now
	sayNowhere = "runbook-nowhere" // no folder will do
)

// lines are the shell lines for one target.
type lines struct {
	start   string
	install map[string]string // by the machine, as uname -sm says it
	agents  map[string]Agent
}

// platforms are the machines that there are agents for.
var platforms = []struct{ machine, platform string }{
	{"Linux x86_64", "linux/amd64"},
	{"Linux aarch64", "linux/arm64"},
}

// linesFor makes the lines for t. A platform without an agent is left out.
func linesFor(t Target) (lines, error) {
	l := lines{install: map[string]string{}, agents: map[string]Agent{}}
	var cases strings.Builder
	var why error
	for _, p := range platforms {
		a, err := t.Agents(p.platform)
		if err != nil {
			why = err
			continue
		}
		if !isHash(a.SHA256) {
			return l, fmt.Errorf("%q is not the SHA-256 of an agent", a.SHA256)
		}
		fmt.Fprintf(&cases, `"%s") n=agent-%s;; `, p.machine, a.SHA256[:32])
		l.agents[p.machine] = a
		l.install[p.machine] = installLine(t.Become, a.SHA256)
	}
	if len(l.agents) == 0 {
		return l, fmt.Errorf("there is no agent to start: %w", why)
	}
	switch t.Become {
	case "":
		l.start = shell(findMachine + fmt.Sprintf(choose, cases.String()) + startOwn)
	case "sudo":
		l.start = shell(findMachine + fmt.Sprintf(choose, cases.String()) + startRoot)
	default:
		return l, fmt.Errorf("become %q is not known: it is sudo, or nothing", t.Become)
	}
	return l, nil
}

func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func shell(script string) string { return "exec /bin/sh -c '" + script + "'" }

// findMachine sets m to what uname -sm says, without a fork from Linux 6.1 on.
const findMachine = `{ read m </proc/sys/kernel/arch; } 2>/dev/null && m="Linux $m" || m=$(uname -sm); `

// choose sets n to the agent's file name, which is another one for each
// machine, for a home may be shared.
const choose = `case $m in %s*) echo "` + sayNeed + ` $m"; exit 1;; esac; `

// findUser sets u to the user's number, without a fork.
const findUser = `while read k u r; do [ "$k" = Uid: ] && break; done </proc/self/status; `

// startOwn runs the agent from the first folder that has it. Folder and file
// must be the user's own and no link; a file on a file system without exec
// is not executable to -x.
const startOwn = `t() { [ -L "$1" ] && return; [ -O "$1" ] && [ -O "$1/$n" ] && [ -x "$1/$n" ] && exec "$1/$n"; }; ` +
	`t "$HOME/.cache/runbook"; ` + findUser +
	`t "/run/user/$u/runbook"; t "/var/tmp/runbook-$u"; echo "` + sayNeed + ` $m"`

// startRoot runs the agent as root. Only root can have put it there.
const startRoot = `f=/var/lib/runbook/$n; if [ -x "$f" ]; then [ -O / ] && exec "$f"; ` +
	`LC_ALL=C; export LC_ALL; exec sudo -n "$f"; fi; echo "` + sayNeed + ` $m"`

// installLine reads a compressed agent and installs it under its hash.
func installLine(become, sum string) string {
	put := fmt.Sprintf(putFile, sum, sum[:32])
	if become == "" {
		return shell("umask 077; " + findUser +
			`for d in "$HOME/.cache/runbook" "/run/user/$u/runbook" "/var/tmp/runbook-$u"; do ` +
			// only the last folders are made: a home that is missing stays so
			`p=${d%/*}; p=${p%/.cache}; [ -d "$p" ] || continue; [ -L "$d" ] && continue; ` +
			`mkdir -p "$d" 2>/dev/null; [ -O "$d" ] && chmod 700 "$d" || continue; ` +
			put + "done; echo " + sayNowhere)
	}
	body := `umask 022; for d in /var/lib/runbook; do [ -L "$d" ] && continue; ` +
		`mkdir -p "$d"; [ -O "$d" ] && chmod 755 "$d" || continue; ` + put + "done; echo " + sayNowhere
	return "exec /bin/sh -c '[ -O / ] && exec /bin/sh -c \"$0\"; LC_ALL=C; export LC_ALL; exec sudo -n /bin/sh -c \"$0\"' '" + body + "'"
}

// putFile writes stdin to folder $d, if files there can be executed, checks
// it and gives it its name in one step. Agents that were put there long ago go.
const putFile = `f="$d/new-$$"; { : >"$f" && chmod 755 "$f" && [ -x "$f" ]; } 2>/dev/null || { rm -f "$f"; continue; }; ` +
	`gzip -dc >"$f" && echo "%s  $f" | sha256sum -c >/dev/null && mv -f "$f" "$d/agent-%s" && ` +
	`{ find "$d" -name "agent-*" -mtime +90 -exec rm -f {} +; echo ` + sayDone + `; exit 0; }; rm -f "$f"; exit 1; `
