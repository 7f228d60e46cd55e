package script

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"runbook/engine"
	"runbook/engine/resource"
)

func TestMain(m *testing.M) {
	if IsEvaluator() {
		Main(testOps, nil)
	}
	if len(os.Args) == 4 && os.Args[1] == "liar" {
		lie(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if releasedDir != "" {
			os.RemoveAll(releasedDir)
		}
		os.Exit(code)
	}))
}

// The operations of the tests: each kind of field, and each kind of failure.
var testOps = engine.Operations{
	"facts":      facts{},
	"route.add":  routeAdd{},
	"route.list": routeList{},
	"kinds.set":  kinds{},
	"echo":       echo{},
	"refuse":     refuse{},
	"drift":      drift{},

	"link.restart": linkRestart{},

	"db.count": dbCount{},
	"db.set":   dbSet{},
	"db.reap":  dbReap{},
}

// These two are operations of servers.
type dbCount struct {
	Server string `json:"server"`
	State  string `json:"state,omitempty"`
}

func (dbCount) Look(context.Context, engine.Reader) (any, error) { return nil, nil }

type dbSet struct {
	Server string `json:"server"`
	Name   string `json:"name"`
	Value  string `json:"value"`
}

type dbReap struct {
	Server string `json:"server"`
}

func (dbReap) Plan(context.Context, engine.Reader) (resource.State, error) { return nil, nil }
func (dbReap) Result(bool, resource.State) any                             { return nil }
func (o dbReap) OnFleet(engine.Fleet) engine.Operation                     { return o }

func (dbSet) Plan(context.Context, engine.Reader) (resource.State, error) { return nil, nil }
func (dbSet) Result(bool, resource.State) any                             { return nil }

type linkRestart struct {
	Name string `json:"name"`
}

func (linkRestart) Disrupts() {}

type facts struct{}

func (facts) Look(context.Context, engine.Reader) (any, error) { return nil, nil }

type routeAdd struct {
	Dst    netip.Prefix   `json:"dst"`
	Via    netip.Addr     `json:"via,omitzero"`
	Dev    string         `json:"dev,omitempty"`
	Metric uint32         `json:"metric,omitempty"`
	Table  resource.Table `json:"table,omitempty"`
	Hops   []hop          `json:"hops,omitempty"`
}

type hop struct {
	Via    netip.Addr `json:"via"`
	Weight int        `json:"weight,omitempty"`
}

func (r routeAdd) Validate() error {
	if r.Via.IsValid() && r.Via.Is4() != r.Dst.Addr().Is4() {
		return fmt.Errorf("via %s is of another family than dst %s", r.Via, r.Dst)
	}
	return nil
}

type routeList struct {
	Covers netip.Addr `json:"covers,omitzero"`
}

type kinds struct {
	S    string            `json:"s"`
	B    bool              `json:"b,omitempty"`
	I8   int8              `json:"i8,omitempty"`
	U16  uint16            `json:"u16,omitempty"`
	F    float64           `json:"f,omitempty"`
	Wait engine.Duration   `json:"wait,omitempty"`
	L    []string          `json:"l,omitempty"`
	M    map[string]int    `json:"m,omitempty"`
	P    *uint32           `json:"p,omitempty"`
	By   map[string][]bool `json:"by,omitempty"`
}

type echo struct {
	Value any `json:"value,omitempty"`
}

type (
	refuse struct{}
	drift  struct{}
)

// host is a node that answers every operation.
type host struct {
	mu     sync.Mutex
	calls  []engine.Call
	prints []string
	slept  []time.Duration
	do     func(context.Context, engine.Call) (any, error) // instead of what is below, where it is set
}

var errRefused = &engine.Error{
	Code: engine.Unreachable, Op: "refuse", Node: "web-1", Cause: "refused by the kernel", Kernel: "Nexthop has invalid gateway",
	Err: &engine.NodeError{Errno: "ENETUNREACH", Words: "Nexthop has invalid gateway"},
}

var errDrift = &engine.Error{Code: engine.Differs, Op: "drift", Cause: "the node has drifted"}

func (h *host) Do(ctx context.Context, c engine.Call) (any, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	if h.do != nil {
		return h.do(ctx, c)
	}
	switch op := c.Op.(type) {
	case facts:
		return resource.Facts{Hostname: "web-1", OS: "debian", CPUs: 4, Memory: 9007199254740993}, nil
	case echo:
		return op.Value, nil
	case refuse:
		return nil, errRefused
	case drift:
		return nil, errDrift
	case routeAdd:
		return map[string]any{"changed": true, "dst": op.Dst}, nil
	case routeList:
		return []any{}, nil
	}
	return nil, nil
}

func (h *host) Print(_, line string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prints = append(h.prints, line)
	return nil
}

func (h *host) Sleep(ctx context.Context, d time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slept = append(h.slept, d)
	return ctx.Err()
}

var web1 = engine.NodeInfo{
	Name: "web-1", Groups: []string{"web", "eu"},
	Vars: map[string]any{"rack": 7, "dns": []string{"192.0.2.53"}, "big": int64(9007199254740993)},
}

// source is a runbook of one file.
func source(text string) engine.Source {
	return engine.Source{Main: "books/main.star", Files: map[string]string{"main.star": text}}
}

// start starts the runbook, for the time of the test.
func start(t testing.TB, cfg Config, src engine.Source) (*Program, error) {
	t.Helper()
	cfg.Ops = testOps
	p, err := Start(context.Background(), cfg, src)
	if err == nil {
		t.Cleanup(func() { p.Close() })
	}
	return p, err
}

// runText loads and runs a runbook of one file.
func runText(t testing.TB, cfg Config, text string) (*host, error) {
	t.Helper()
	h := &host{}
	p, err := start(t, cfg, source(text))
	if err != nil {
		return h, err
	}
	defer p.Close()
	return h, p.Run(context.Background(), web1, h)
}

// wantError checks that err is an error of this kind.
func wantError(t testing.TB, err error, code engine.Code) *engine.Error {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v), want an *engine.Error", err, err)
	}
	if e.Code != code {
		t.Errorf("code %d, want %d: %v", e.Code, code, e)
	}
	return e
}

// write writes files into a new folder and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
