// Command bench measures runbook beside plain ssh on a lab of this machine and
// prints a table of ratios.
//
//	go run ./bench bin/runbook
//	go run ./bench -sandbox 10000	# what the sandbox of scripts costs; needs nothing, and builds runbook where it is not named
//
// Everything runs in one interleaved series, round after round, so that a
// machine that is slow for a while is slow for all: the ratios hold where the
// seconds do not. The floor is what nobody who connects afresh can beat:
//
//	xargs -P50 -n1 ssh -o KexAlgorithms=curve25519-sha256 NODE ip route replace …
//
// It needs root, openssh-server and nsenter.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"runbook/lab"
)

func main() {
	if lab.IsChild() {
		lab.ChildMain()
	}
	nodes := flag.Int("nodes", 50, "nodes of the lab")
	rounds := flag.Int("rounds", 9, "rounds of the series")
	planned := flag.Int("sandbox", 0, "instead of all else, measure the sandbox of scripts with a plan of `N` simulated nodes")
	flag.Parse()
	if *planned > 0 {
		if err := sandbox(flag.Arg(0), *planned); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: bench [-nodes N] [-rounds N] RUNBOOK, or bench -sandbox N [RUNBOOK]")
		os.Exit(1)
	}
	if err := run(flag.Arg(0), *nodes, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a lab, and files that say how to reach it.
type bench struct {
	lab   *lab.Lab
	exe   string // runbook
	dir   string
	round int
	used  time.Duration // of CPU, by the last command and its children
	hosts string        // file with an address a line
}

func run(exe string, nodes, rounds int) error {
	exe, err := filepath.Abs(exe)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "runbook-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := lab.Up(context.Background(), lab.Options{Nodes: nodes})
	if err != nil {
		return err
	}
	defer l.Down(context.Background()) //nolint:errcheck // it ends with this process
	b := &bench{lab: l, exe: exe, dir: dir}
	if err := b.write(); err != nil {
		return err
	}
	if _, err := b.ours(1); err != nil { // sends the agents
		return err
	}
	if err := b.speed(nodes, rounds); err != nil {
		return err
	}
	if err := b.memory(nodes); err != nil {
		return err
	}
	return b.bigTable()
}

// runbookSource adds routes: as many as it is told, all new.
const runbookSource = `"""Add routes."""

runbook(
    params = {
        "round": param.int("second number of the destinations"),
        "count": param.int("how many"),
    },
    limits = limits(nodes = 5000, changes_per_node = 100, changes = 50000, nodes_per_hour = 100000, changes_per_hour = 1000000, changes_per_minute = 100000),
    rollout = rollout(waves = ["100%"]),
)

def run(node, p):
    for i in range(p.count):
        node.route.add(dst = "10.%d.%d.0/24" % (p.round, i), via = "10.98.0.1", dev = "eth1")
`

func (b *bench) write() error {
	var inv, hosts strings.Builder
	fmt.Fprintf(&inv, "defaults:\n  ssh: {user: %s, identity: %s, known_hosts: %s, config: none}\nnodes:\n", lab.User, b.lab.KeyFile(), b.lab.KnownHosts())
	for _, n := range b.lab.Nodes() {
		host, _, _ := strings.Cut(n.Addr, ":")
		fmt.Fprintf(&inv, "  %s: {host: %s}\n", n.Name, host)
		fmt.Fprintln(&hosts, host)
	}
	b.hosts = filepath.Join(b.dir, "hosts")
	for name, text := range map[string]string{"hosts": hosts.String(), "inventory.yaml": inv.String(), "routes.star": runbookSource} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// inside runs argv where the nodes can be reached, and returns its wall time.
func (b *bench) inside(argv ...string) (time.Duration, error) {
	cmd := b.command(argv...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", argv[0], err, out)
	}
	b.used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return time.Since(start), err
}

func (b *bench) command(argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(b.lab.HolderPID()), "-n", "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+b.dir)
	return cmd
}

// floor replaces one route on every node by plain ssh.
func (b *bench) floor() (time.Duration, error) {
	return b.inside("xargs", "-a", b.hosts, "-P50", "-I{}", "ssh", "-F", "none", "-o", "KexAlgorithms=curve25519-sha256",
		"-i", b.lab.KeyFile(), "-o", "UserKnownHostsFile="+b.lab.KnownHosts(), "-o", "BatchMode=yes", lab.User+"@{}",
		"ip", "route", "replace", "10.250.0.0/16", "via", "10.98.0.1", "dev", "eth1")
}

// ours adds count routes that no node has yet.
func (b *bench) ours(count int) (time.Duration, error) {
	b.round++
	return b.inside(b.runArgs(count)...)
}

func (b *bench) runArgs(count int) []string {
	return []string{b.exe, "run", "-i", filepath.Join(b.dir, "inventory.yaml"), "-n", "all", "--yes",
		filepath.Join(b.dir, "routes.star"), fmt.Sprintf("round=%d", b.round), fmt.Sprintf("count=%d", count)}
}

func (b *bench) speed(nodes, rounds int) error {
	names := []string{"xargs -P50 ssh ip route replace", "runbook, 1 route", "runbook, 20 routes"}
	walls, here, there := make([][]time.Duration, len(names)), make([][]time.Duration, len(names)), make([][]time.Duration, len(names))
	for range rounds {
		for i, f := range []func() (time.Duration, error){b.floor, func() (time.Duration, error) { return b.ours(1) }, func() (time.Duration, error) { return b.ours(20) }} {
			if err := b.reset(); err != nil {
				return err
			}
			before := family(b.lab.HolderPID())
			d, err := f()
			if err != nil {
				return err
			}
			walls[i], here[i] = append(walls[i], d), append(here[i], b.used)
			there[i] = append(there[i], family(b.lab.HolderPID())-before)
		}
	}
	fmt.Printf("%d nodes, %d rounds, interleaved; medians\n\n", nodes, rounds)
	fmt.Printf("%-34s %9s %9s %9s   %s\n", "", "wall", "CPU here", "nodes", "ratio of walls, round by round")
	for i, name := range names {
		line := fmt.Sprintf("%-34s", name)
		for _, d := range [][]time.Duration{walls[i], here[i], there[i]} {
			line += fmt.Sprintf(" %9s", median(d).Round(time.Millisecond))
		}
		switch i {
		case 1:
			line += fmt.Sprintf("   %.2f of the floor (wanted: at most 1.20)", ratio(walls[1], walls[0]))
		case 2:
			line += fmt.Sprintf("   %.2f of one route (wanted: at most 1.30)", ratio(walls[2], walls[1]))
		}
		fmt.Println(line)
	}
	return nil
}

// family is the CPU time that a process, its living descendants, and those
// that they have waited for have used so far. An agent counts once it has ended.
func family(pid int) time.Duration {
	const tick = time.Second / 100 // of the times in /proc, on every architecture
	var used time.Duration
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ") // the name, which may hold anything, is over
	if f := strings.Fields(rest); len(f) > 14 {
		for _, ticks := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(ticks)
			used += time.Duration(n) * tick
		}
	}
	for _, c := range children(pid) {
		used += family(c)
	}
	return used
}

// children are the living processes that pid has started.
func children(pid int) (out []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		text, _ := os.ReadFile(l)
		for _, c := range strings.Fields(string(text)) {
			n, _ := strconv.Atoi(c)
			out = append(out, n)
		}
	}
	return out
}

// reset takes all routes away again, so that every round finds the same nodes.
func (b *bench) reset() error {
	var g errgroup.Group
	g.SetLimit(8)
	for _, n := range b.lab.Nodes() {
		g.Go(func() error {
			exit, err := b.lab.Exec(context.Background(), n.Name, []string{"ip", "route", "flush", "via", "10.98.0.1"}, nil, os.Stderr, os.Stderr)
			if err == nil && exit != 0 {
				err = fmt.Errorf("ip route flush on %s: exit %d", n.Name, exit)
			}
			return err
		})
	}
	return g.Wait()
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// ratio is the median of a to b, round by round.
func ratio(a, b []time.Duration) float64 {
	var out []float64
	for i := range a {
		out = append(out, a[i].Seconds()/b[i].Seconds())
	}
	slices.Sort(out)
	return out[len(out)/2]
}

// memory looks at the controller and the agents while a run waits for an answer.
func (b *bench) memory(nodes int) error {
	few, _, err := b.resident("node-1")
	if err != nil {
		return err
	}
	many, agent, err := b.resident("all")
	if err != nil {
		return err
	}
	fmt.Printf("\n%-34s %6d KB  for each node beyond the first, all of them predicted (wanted: at most 300)\n", "controller", (many-few)/(nodes-1))
	least, err := b.peak("node-1")
	if err != nil {
		return err
	}
	most, err := b.peak("all")
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %6d KB  the same at its peak in a whole run (wanted: at most 300, with 200 nodes)\n", "controller", (most-least)/(nodes-1))
	one, err := b.simulated(1)
	if err != nil {
		return err
	}
	all, err := b.simulated(manySimulated)
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %6d KB  for each of %d simulated nodes that were changed (wanted: at most 300)\n", "controller", (all-one)/(manySimulated-1), manySimulated)
	fmt.Printf("%-34s %6.1f MB  the largest of %d (wanted: at most 15)\n", "agent, resident", float64(agent)/1024, nodes)
	for _, arch := range []string{"amd64", "arm64"} {
		if st, err := os.Stat("cmd/runbook/agents/linux-" + arch + ".gz"); err == nil {
			fmt.Printf("%-34s %6.2f MB  (wanted: at most 4)\n", "agent, compressed, "+arch, float64(st.Size())/(1<<20))
		}
	}
	return nil
}

// manySimulated is how many nodes are simulated to see what a large fleet takes.
const manySimulated = 2000

// simulated changes n simulated nodes and returns the most that the controller was
// resident, the nodes included, in KB.
func (b *bench) simulated(n int) (int, error) {
	cmd := exec.Command(b.exe, "run", "--lab", strconv.Itoa(n), "--yes", filepath.Join(b.dir, "routes.star"), "round=1", "count=1")
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+b.dir, "RUNBOOK_LAB=sim")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%d simulated nodes: %w\n%s", n, err, out)
	}
	return int(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss), nil
}

// resident starts a run that waits for an answer and returns the resident size
// of the controller and of the largest agent, in KB.
func (b *bench) resident(selection string) (controller, agent int, err error) {
	b.round++
	args := slices.DeleteFunc(b.runArgs(1), func(a string) bool { return a == "--yes" })
	args[slices.Index(args, "all")] = selection
	cmd := b.command(args...)
	var stderr bytes.Buffer
	asked := make(chan struct{})
	cmd.Stderr = &watcher{buf: &stderr, want: "apply to ", found: asked}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer cmd.Wait() //nolint:errcheck // it is told to quit, and says so
	defer in.Close()
	select {
	case <-asked:
	case <-time.After(60 * time.Second):
		return 0, 0, fmt.Errorf("no question came:\n%s", &stderr)
	}
	agent = largest(b.lab.HolderPID(), "agent-")
	return status(cmd.Process.Pid, "VmRSS"), agent, nil
}

// peak makes a whole run and returns the most that the controller was resident, in KB.
func (b *bench) peak(selection string) (kb int, err error) {
	b.round++
	args := b.runArgs(1)
	args[slices.Index(args, "all")] = selection
	cmd := b.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for { // what the system says when it has ended has its evaluator's in it, too
		select {
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("a run on %s: %w\n%s", selection, err, &out)
			}
			return kb, err
		case <-time.After(10 * time.Millisecond):
			kb = max(kb, status(cmd.Process.Pid, "VmHWM"))
		}
	}
}

// watcher closes found when want has been written to it.
type watcher struct {
	buf   *bytes.Buffer
	want  string
	found chan struct{}
	done  bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if !w.done && strings.Contains(w.buf.String(), w.want) {
		w.done = true
		close(w.found)
	}
	return len(p), nil
}

// largest is the most that a process below pid was resident whose file has name in it, in KB.
func largest(pid int, name string) (kb int) {
	for _, c := range children(pid) { // those of this lab: other ones may be on the machine
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c))
		if first, _, _ := bytes.Cut(argv, []byte{0}); strings.Contains(filepath.Base(string(first)), name) {
			kb = max(kb, status(c, "VmHWM"))
		}
		kb = max(kb, largest(c, name))
	}
	return kb
}

// status is a figure of /proc/PID/status, in KB.
func status(pid int, field string) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n
		}
	}
	return 0
}

// bigTable adds one route to a node that has 100,000.
func (b *bench) bigTable() error {
	var batch strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&batch, "route add 172.%d.%d.%d/32 dev eth1 table 100\n", 16+i/65536, i/256%256, i%256)
	}
	file := filepath.Join(b.dir, "batch")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := b.lab.Exec(context.Background(), "node-1", []string{"ip", "-batch", "-"}, f, os.Stderr, os.Stderr); err != nil {
		return err
	}
	var small, big []time.Duration
	for range 5 {
		for _, c := range []struct {
			node string
			to   *[]time.Duration
		}{{"node-2", &small}, {"node-1", &big}} {
			b.round++
			args := b.runArgs(1)
			args[slices.Index(args, "all")] = c.node
			d, err := b.inside(args...)
			if err != nil {
				return err
			}
			*c.to = append(*c.to, d)
		}
	}
	fmt.Printf("\n%-34s %9s\n%-34s %9s   %.2f of that\n", "1 route on 1 node", median(small).Round(time.Millisecond),
		"the same, beside 100,000 routes", median(big).Round(time.Millisecond), ratio(big, small))
	return nil
}
