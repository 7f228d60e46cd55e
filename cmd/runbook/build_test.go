package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// build is a runbook that the first test that wants it builds, for all of them.
type build struct {
	sync.Once
	name  string
	texts func(*testing.T) map[string]string // see buildRunbook
}

// released is runbook as make builds it.
var released = &build{name: "released", texts: func(*testing.T) map[string]string { return nil }}

// link gives b the name binary: each test tells its own processes by that.
func (b *build) link(t *testing.T, binary string) {
	t.Helper()
	path := filepath.Join(builds, b.name)
	b.Do(func() { buildRunbook(t, path, b.texts(t)) })
	if err := os.Link(path, binary); err != nil {
		t.Fatal(err)
	}
}

// buildRunbook builds runbook as make does, with a small agent in it, from the source
// of the repository with other texts in place of some of its files, or beside them. A binary that is its own agent
// would be sent to every node, and looked through at every connection.
func buildRunbook(t *testing.T, binary string, texts map[string]string) {
	t.Helper()
	o := overlay{t, t.TempDir(), map[string]string{}}
	for path, text := range texts {
		o.add(path, []byte(text))
	}
	agent := filepath.Join(o.dir, "agent")
	o.build(agent, "../runbook-agent", "-trimpath", "-ldflags", "-s -w")
	b, err := os.ReadFile(agent)
	if err != nil {
		t.Fatal(err)
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} { // the one that is not this machine's is not used
		o.add("cmd/runbook/agents/linux-"+arch+".gz", gz.Bytes())
		o.add("cmd/runbook/agents/linux-"+arch+".sha256", fmt.Appendf(nil, "%x", sha256.Sum256(b)))
	}
	o.build(binary, ".", "-tags", "embedagent")
}

// overlay is the files that a build sees in place of others.
type overlay struct {
	t       *testing.T
	dir     string
	replace map[string]string
}

// add gives the file at path, from the top of the repository, another text.
func (o overlay) add(path string, text []byte) {
	o.t.Helper()
	path, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		o.t.Fatal(err)
	}
	o.replace[path] = filepath.Join(o.dir, fmt.Sprint(len(o.replace)))
	if err := os.WriteFile(o.replace[path], text, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o overlay) build(binary, dir string, flags ...string) {
	o.t.Helper()
	b, err := json.Marshal(map[string]any{"Replace": o.replace})
	if err != nil {
		o.t.Fatal(err)
	}
	file := filepath.Join(o.dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		o.t.Fatal(err)
	}
	args := append([]string{"build", "-overlay", file, "-o", binary}, append(flags, dir)...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // it confines its evaluator only without C
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("%v\n%s", err, out)
	}
}
