package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/node/sim"
	"runbook/tui"
)

// asked is a program without a script: each of these calls, whatever the ones before came to.
type asked []engine.Call

func (asked) Header() engine.Header {
	return engine.Header{Limits: engine.Limits{engine.LimitChangesPerNode: {N: 100}, engine.LimitRepeats: {N: 10}}, Rollout: engine.Rollout{Waves: []string{"100%"}}}
}

func (a asked) Run(ctx context.Context, _ engine.NodeInfo, h engine.Host) error {
	for _, c := range a {
		h.Do(ctx, c) //nolint:errcheck // what the node refuses does not matter here
	}
	return nil
}

func (asked) Usage() engine.Usage { return engine.Usage{} }
func (asked) Close() error        { return nil }

// manyCalls asks a bit of everything.
func manyCalls(t testing.TB) asked {
	t.Helper()
	var out asked
	for _, c := range [][2]string{
		{"facts", `{}`}, {"route.list", `{}`}, {"route.add", `{"dst":"10.20.0.0/16","via":"10.98.0.1"}`}, {"route.add", `{"dst":"fd01::/64","via":"fd00:98::1","dev":"eth1"}`},
		{"route.delete", `{"dst":"0.0.0.0/0"}`}, {"link.down", `{"name":"eth1"}`}, {"link.up", `{"name":"eth1"}`}, {"link.restart", `{"name":"eth1"}`},
		{"addr.add", `{"dev":"eth1","prefix":"10.97.0.2/16"}`}, {"addr.delete", `{"dev":"eth1","prefix":"10.98.0.2/16"}`}, {"rule.list", `{}`}, {"rule.add", `{"src":"10.98.0.0/16","table":"main"}`}, {"neigh.add", `{"addr":"10.98.0.9","dev":"eth1","mac":"02:00:00:00:00:09"}`}, {"link.set", `{"name":"eth1","mtu":1400}`}, {"nexthop.list", `{}`}, {"neigh.list", `{}`}, {"link.list", `{}`},
	} {
		op, err := builtins.Operations.Decode(c[0], json.RawMessage(c[1]))
		if err != nil {
			if strings.HasPrefix(err.Error(), "there is no operation") {
				continue
			}
			t.Fatalf("%s: %v", c[0], err)
		}
		out = append(out, engine.Call{Name: c[0], Args: json.RawMessage(c[1]), Op: op, Pos: "book.star:1:1"})
	}
	if len(out) < 9 {
		t.Fatalf("only %d calls", len(out))
	}
	return out
}

// FuzzSnapshot reads any bytes as a snapshot: they are one, on whose node everything can be
// predicted and done or refused, or there is an error that names the file.
func FuzzSnapshot(f *testing.F) {
	whole := string(snapshotOf(f, "web-7"))
	f.Add([]byte(whole))
	for _, change := range [][2]string{
		{`"route":[`, `"route":[{},null,`}, {`"link":[`, `"link":[{},{"name":"eth1"},null,`}, {`"addr":[`, `"addr":[{},null,{"addr":"0.0.0.0/0","dev":"none"},`}, {`"mtu":1500`, `"mtu":-1`},
		{`"name":"eth1"`, `"name":"eth1\u001b[2J\n"`}, {`"name":"eth1"`, `"name":"eth0"`}, {`"v":1`, `"v":2`}, {`"rule":[`, `"rule":[{},null,{"family":9},`}, {`"state":{`, `"state":{"absent":["route x","","link"],`},
		{`"state":{`, `"state":{"nothing":[],`}, {`/16"`, `/0"`}, {`"state":{`, `"state":{"session":[{},null],"neigh":[{}],"nexthop":[{"id":1},{}],"memory":[{}],`}, {`"name":"web-7"`, `"name":"\u001b[2J"`},
		{`"hops":[{`, `"hops":[{},{`}, {`"groups":["web"]`, `"groups":null`}, {`"table":"main"`, `"table":"local"`},
	} {
		if text := strings.ReplaceAll(whole, change[0], change[1]); text != whole {
			f.Add([]byte(text))
		} else {
			f.Errorf("the snapshot has no %s", change[0])
		}
	}
	for _, text := range []string{``, `null`, `{}`, `{"v":1,"node":{"name":"a"},"state":null}`, `{"v":1,"node":{"name":"a"},"state":{"route":[{}]}}`} {
		f.Add([]byte(text))
	}
	calls := manyCalls(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSnapshot("x.json", b)
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.HasPrefix(e.Cause, "x.json ") {
				t.Fatalf("an error that does not name the file: %v", err)
			}
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("it is read and cannot be saved: %v", err)
		}
		back, err := ParseSnapshot("x.json", again)
		if err != nil || !resource.Equal(s.State, back.State) {
			t.Fatalf("saved and read again it differs: %v\n%s\n%s", err, b, again)
		}
		r := &rollout.Run{
			Program: calls, Nodes: []engine.NodeInfo{s.Node}, Dialer: dialer{nodes: map[string]engine.Node{s.Node.Name: sim.New(s.State)}},
			Journal: forgetful{}, ID: "test", Emit: func(engine.Event) {}, Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
		}
		begun := time.Now()
		plans, err := r.Predict(t.Context())
		if err != nil {
			return
		}
		if text, _ := tui.Changes(plans); strings.Contains(text, "\x1b") {
			t.Errorf("it reaches for the terminal: %q", text)
		}
		if r.Refusal(plans) == nil {
			r.Apply(t.Context(), plans) //nolint:errcheck // it must not crash
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestLoadSnapshotOfNoFile(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	f, err := os.Create(large)
	if err == nil {
		err = f.Truncate(maxSnapshot + 1) // takes no room
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for path, want := range map[string]string{"/dev/zero": "is not a file", "/dev/null": "is not a file", dir: "is not a file", large: "too large for a snapshot", filepath.Join(dir, "none"): "no such file"} {
		_, err := LoadSnapshot(path)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.Contains(e.Error(), want) || !strings.Contains(e.Error(), path) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}
