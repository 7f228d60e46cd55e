package incident

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"runbook/engine"
	"runbook/lab"
)

// stage is a lab of its own, one node of which has the database server and
// another is the operator's. Everything in it ends with this process, however
// that comes about: the lab's processes, and their files with them.
type stage struct {
	home     string // of this machine: the lab's socket and keys, and what runbook keeps of its runs
	lab      *lab.Lab
	status   lab.Status
	server   *server
	sockets  *sockets
	operator string // the node that commands come from

	all    *errgroup.Group // what runs beside an act
	ctx    context.Context // ends it
	cancel context.CancelFunc
}

// openStage makes a lab with nodes for services, and a server that lets as many connections in.
func openStage(ctx context.Context, nodes, maxConnections int) (*stage, error) {
	st := &stage{sockets: &sockets{open: map[netip.AddrPort]bool{}}}
	ctx, st.cancel = context.WithCancel(ctx)
	st.all, st.ctx = errgroup.WithContext(ctx)
	if err := st.open(ctx, nodes, maxConnections); err != nil {
		st.close() //nolint:errcheck // why it was not opened says more
		return nil, err
	}
	return st, nil
}

func (st *stage) open(ctx context.Context, nodes, maxConnections int) (err error) {
	if st.home, err = os.MkdirTemp("", "runbook-incident-"); err != nil {
		return engine.Internal.Errorf("a folder for the replay: %w", err)
	}
	// Where the standing lab would be for a runbook whose state is in home: so that -i lab is this one.
	dir := filepath.Join(st.home, "runbook", "lab")
	if st.lab, err = lab.Up(ctx, lab.Options{Nodes: nodes + 2, Dir: dir}); err != nil {
		return err
	}
	if st.status, err = st.lab.Status(ctx); err != nil {
		return err
	}
	st.operator = st.status.Nodes[nodes+1].Name
	if st.server, err = startServer(st.ctx, st.lab, st.status.Nodes[nodes], maxConnections); err != nil {
		return err
	}
	return st.giveKeys(ctx)
}

// giveKeys lets the operator's node reach the others by ssh.
func (st *stage) giveKeys(ctx context.Context) error {
	for name, from := range map[string]string{"id_ed25519": st.lab.KeyFile(), "known_hosts": st.lab.KnownHosts()} {
		b, err := os.ReadFile(from)
		if err != nil {
			return engine.Internal.Errorf("the keys of the lab: %w", err)
		}
		if err := put(ctx, st.lab, st.operator, "/root/.ssh/"+name, "600", b); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything, and removes what there was of it.
func (st *stage) close() error {
	st.cancel()
	err := st.all.Wait()
	if st.server != nil && st.server.conn != nil {
		st.server.conn.Close(context.Background()) //nolint:errcheck // the server ends anyway
	}
	if st.lab != nil {
		if e := st.lab.Down(context.Background()); err == nil {
			err = e
		}
	}
	if st.server != nil {
		<-st.server.ended
	}
	if st.home != "" {
		if e := os.RemoveAll(st.home); err == nil && e != nil {
			err = engine.Internal.Errorf("removing what the replay made: %w", e)
		}
	}
	return err
}

// serve puts services on nodes, and returns when each has its pool. r hears of their requests and restarts.
func (st *stage) serve(nodes []string, h Habits, r *record) error {
	for _, node := range nodes {
		ns, err := st.lab.NetNS(st.ctx, node)
		if err != nil {
			return err
		}
		if err := watchLink(st.ctx, ns, "eth1", func() { r.restarted(node) }); err != nil {
			ns.Close()
			return err
		}
		s := &service{node: node, net: ns, server: st.server.addr, habits: h, sockets: st.sockets, tell: r.request}
		st.all.Go(func() error {
			defer ns.Close()
			s.run(st.ctx)
			return nil
		})
	}
	return nil
}

// observeEvery is how often the connections of the server are looked at.
const observeEvery = 100 * time.Millisecond

// observe has tell hear of the server's connections until the stage is closed.
func (st *stage) observe(tell func([]backend)) {
	st.all.Go(func() error {
		tick := time.NewTicker(observeEvery)
		defer tick.Stop()
		for {
			all, err := st.server.backends(st.ctx)
			if st.ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			tell(all)
			select {
			case <-st.ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// filled waits until so many connections of services are open.
func (st *stage) filled(ctx context.Context, connections int) error {
	for deadline := time.Now().Add(patience); ; {
		if n := st.sockets.count(); n >= connections {
			return nil
		} else if time.Now().After(deadline) {
			return engine.Internal.Errorf("the services have opened %d of %d connections in %s", n, connections, patience)
		}
		if err := st.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits, unless ctx or what runs beside it ends.
func (st *stage) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-st.ctx.Done(): // which ctx ends too
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case st.ctx.Err() != nil:
		return st.all.Wait()
	}
	return nil
}

// put writes a file on a node.
func put(ctx context.Context, l *lab.Lab, node, name, mode string, text []byte) error {
	in, out, err := os.Pipe()
	if err != nil {
		return engine.Internal.Errorf("a pipe: %w", err)
	}
	defer in.Close()
	go func() {
		defer out.Close()
		out.Write(text) //nolint:errcheck // who reads half of it says so
	}()
	_, err = run(ctx, l, node, in, "install", "-D", "-m", mode, "/dev/stdin", name)
	return err
}

// output runs a program on a node, and returns what it wrote.
func output(ctx context.Context, l *lab.Lab, node string, argv ...string) (string, error) {
	return run(ctx, l, node, nil, argv...)
}

func run(ctx context.Context, l *lab.Lab, node string, stdin *os.File, argv ...string) (string, error) {
	var said bytes.Buffer
	exit, err := stream(ctx, l, node, stdin, &said, argv...)
	if err != nil {
		return "", err
	}
	if exit != 0 {
		return "", &engine.Error{Code: engine.Internal, Node: node, Cause: fmt.Sprintf("%s: exit status %d", argv[0], exit), Kernel: strings.TrimSpace(said.String())}
	}
	return said.String(), nil
}

// stream runs a program on a node, and copies what it writes to w as it comes.
func stream(ctx context.Context, l *lab.Lab, node string, stdin *os.File, w io.Writer, argv ...string) (exit int, err error) {
	in, out, err := os.Pipe()
	if err != nil {
		return 0, engine.Internal.Errorf("a pipe: %w", err)
	}
	defer in.Close()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(w, in) //nolint:errcheck // what is not read is not said
	}()
	exit, err = l.Exec(ctx, node, argv, stdin, out, out)
	out.Close()
	<-copied
	return exit, err
}
