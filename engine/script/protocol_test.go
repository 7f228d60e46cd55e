package script

import (
	"context"
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// lie is an evaluator that does not keep to the protocol.
func lie(how string) {
	say := func(text string) {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
		os.Stdout.Write(append(b, text...))
	}
	const header = `{"t":"done","header":{"doc":"","limits":{"nodes":{"value":1},"duration":{"value":"1m"},"steps":{"value":5}},"rollout":{"waves":["1"],"bake":"1m","max_failures":0}}}`
	answered := func() { readFrame(os.Stdin) }
	if text, ok := strings.CutPrefix(how, "load:"); ok { // said in answer to start
		answered()
		say(text)
		time.Sleep(time.Hour)
	}
	if what, ok := strings.CutPrefix(how, "flood:"); ok {
		answered()
		say(header)
		answered() // the limits
		answered() // the parameters
		answered() // the run
		flood(what)
		time.Sleep(time.Hour)
	}
	switch how {
	case "oversized":
		os.Stdout.Write([]byte{0xff, 0xff, 0xff, 0xff})
		time.Sleep(time.Hour)
	case "cut short":
		os.Stdout.Write([]byte{0, 0, 1, 0, '{'})
	case "silent":
		time.Sleep(time.Hour)
	case "closes":
		os.Stdout.Close()
		time.Sleep(time.Hour)
	case "large header":
		answered()
		say(`{"t":"done","header":{` + strings.Repeat(" ", 300_000) + `}}`)
		time.Sleep(time.Hour)
	case "deaf":
		answered()
		say(header)
		time.Sleep(time.Hour)
	case "exits":
		os.Stderr.WriteString("something\x1b[2J happened\nand more\n")
		os.Exit(3)
	}
	if text, ok := strings.CutPrefix(how, "run:"); ok { // said in a run
		answered()
		say(header)
		answered() // the limits
		answered() // the parameters
		answered() // the run
		for _, line := range strings.Split(text, "\n") {
			say(line)
		}
		time.Sleep(time.Hour)
	}
}

// TestProtocol checks that nothing an evaluator says harms the controller.
func TestProtocol(t *testing.T) {
	const cheated = "the evaluator said what it must not"
	tests := []struct {
		how, cause string
		code       engine.Code
	}{
		{"oversized", "more than 4 MB in one message", engine.Internal},
		{"cut short", "the evaluator ended unexpectedly", engine.Internal},
		{"silent", "without asking", engine.LimitHit},
		{"closes", "without asking", engine.LimitHit},
		{"exits", `exit status 3 something\x1b[2J happened`, engine.Internal},
		{"load:", "malformed", engine.Internal},
		{"load:{", "malformed", engine.Internal},
		{"load:{} {}", "more than one value", engine.Internal},
		{`load:{"t":"done","more":1}`, `unknown field`, engine.Internal},
		{"load:" + strings.Repeat("[", 100_000), "malformed", engine.Internal},
		{`load:{"t":"dance"}`, `a frame of type "dance"`, engine.Internal},
		{`load:{"t":"run"}`, cheated, engine.Internal},
		{`load:{"t":"done"}`, "no header", engine.Internal},
		{`load:{"t":"done","run":7}`, `"done" of a run that is not going on`, engine.Internal},
		{`load:{"t":"done","header":{"limits":{"nodes":{"value":0}}}}`, "must be at least 1", engine.Internal},
		{`load:{"t":"done","header":{"limits":{"many":{"value":1}}}}`, "there is no limit \"many\"", engine.Internal},
		{`load:{"t":"call","name":"facts","value":{}}`, `"call" while loading`, engine.Internal},
		{`load:{"t":"done","err":{"code":0,"cause":"\u001b[2Jx"}}`, `\x1b[2Jx`, engine.Invalid},
		{`load:{"t":"load","name":"../../etc/passwd"}`, "without asking", engine.LimitHit}, // it gets an error
		{`run:{"t":"load","run":1,"name":"x.star"}`, `"load" in a run`, engine.Internal},
		{`run:{"t":"call","run":1,"name":"rm","value":{}}`, `there is no operation "rm"`, engine.Internal},
		{`run:{"t":"call","run":1,"name":"facts","value":{"x":1}}`, `unknown field`, engine.Internal},
		{`run:{"t":"call","run":1,"name":"route.add","value":{"dst":"10.0.0.0/8","via":"fd00::1"}}`, "another family", engine.Internal},
		{`run:{"t":"call","run":1,"name":"facts","value":{}}` + "\n" + `{"t":"call","run":1,"name":"facts","value":{}}`, "out of turn", engine.Internal},
		{`run:{"t":"sleep","run":1,"delay":"9000h"}`, "sleep for 9000h", engine.Internal},
		{`run:{"t":"done","run":1,"err":{"code":6,"answer":3}}`, "by the error of call 3, which there was not", engine.Internal},
		{`run:{"t":"done","run":1,"err":{"code":42,"cause":"x"}}`, "x", engine.Invalid},
		{`run:{"t":"at","run":1,"pos":"a.star:1:1"}`, "without asking", engine.LimitHit},
		{"deaf", "without asking", engine.LimitHit},
	}
	for _, tt := range tests {
		t.Run(tt.how[:min(len(tt.how), 60)], func(t *testing.T) {
			t.Parallel()
			cfg := Config{Command: []string{os.Args[0], "liar", tt.how}, Deadline: time.Minute}
			if tt.code == engine.LimitHit {
				cfg.Deadline = 200 * time.Millisecond
			}
			node := engine.NodeInfo{Name: "web-1"}
			if tt.how == "deaf" {
				node.Groups = []string{strings.Repeat("more than a pipe holds", 10_000)}
			}
			p, err := start(t, cfg, source("runbook()"))
			if err == nil {
				// Not so fast that what it says out of turn is in the next turn.
				slow := func(context.Context, engine.Call) (any, error) { time.Sleep(300 * time.Millisecond); return nil, nil }
				err = p.Run(t.Context(), node, &host{do: slow})
			}
			e := wantError(t, err, tt.code)
			if !strings.Contains(e.Cause, tt.cause) {
				t.Errorf("%q, want %q", e.Cause, tt.cause)
			}
		})
	}
}

// TestCannotMakeLight checks that an evaluator cannot hide an error that ends
// the run.
func TestCannotMakeLight(t *testing.T) {
	t.Parallel()
	how := `run:{"t":"call","run":1,"seq":1,"name":"drift","value":{}}`
	p, err := start(t, Config{Command: []string{os.Args[0], "liar", how}, Deadline: 2 * time.Second}, source("runbook()"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), web1, &host{}); err != errDrift {
		t.Errorf("%v, want %v", err, errDrift)
	}
}

func TestNoSuchCommand(t *testing.T) {
	_, err := start(t, Config{Command: []string{"/nonexistent"}}, source("runbook()"))
	wantError(t, err, engine.Internal)
}
