package script

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// FuzzSource loads any text as a runbook, and runs it, in this process: a crash
// here would be an evaluator that dies of a script for no limit's sake. What
// takes much time or memory belongs to the attacks, so the steps are few.
func FuzzSource(f *testing.F) {
	for _, a := range append(builtinAttacks(), sourceAttacks()...) {
		if a.text != "" && len(a.text) < 1000 {
			f.Add(a.whole())
		}
	}
	f.Add(benchmarked)
	f.Add("'''doc'''\nrunbook(params = {'a': param.int('x', default = 1)}, rollout = rollout(waves = ['1', '10%']))\ndef run(node, p):\n    print(node.facts().cpus, p.a, struct(a = p))\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 || large(text) {
			return
		}
		ops, _ := nodeOps(testOps)
		ev := &evaluator{nodeOps: ops, threads: map[int64]*thread{}, loaded: make(chan struct{})}
		ev.pool.hold(engine.Limits{engine.LimitSteps: {N: 10_000}})
		ev.out = replier{ev, text}
		th := ev.start(0)
		time.AfterFunc(5*time.Second, func() { th.end(invalid("", "it hangs")) })
		var run *starlark.Function
		failed := th.guard(func() (err error) {
			_, run, _, err = newLoader(th, "books", "main.star").main()
			return err
		})
		if failed == nil {
			failed = th.guard(func() error {
				node, err := ev.node(&nodeFrame{Name: "web-1"})
				if err != nil {
					return err
				}
				_, err = starlark.Call(th.star, run, starlark.Tuple{node, newRecord("params", nil)}, nil)
				return err
			})
		}
		if failed == nil {
			return
		}
		if failed.Code == engine.Internal || failed.Cause == "it hangs" {
			t.Errorf("%+v", failed)
		}
		if e := failed.scriptError("x"); len(e.Error()) > 4*maxText || strings.ContainsRune(e.Error(), '\x1b') {
			t.Errorf("%q", e.Error())
		}
	})
}

// large reports whether text may make a value that is larger than this process
// should take, or one so often shared that Starlark never comes to its end: what
// only another process can stop.
func large(text string) bool {
	digits, most := 0, 4
	if strings.Contains(text, "for") {
		most = 1
	}
	for _, r := range text {
		if r >= '0' && r <= '9' || r == 'e' || r == 'x' {
			if digits++; digits > most {
				return true
			}
		} else if r != '_' {
			digits = 0
		}
	}
	return strings.Contains(text, "<<") || strings.Count(text, "*") > 2 || strings.Count(text, "+") > 12 || strings.Count(text, "for") > 1
}

// replier is the controller: it answers each question at once.
type replier struct {
	ev   *evaluator
	text string
}

func (r replier) Write(b []byte) (int, error) {
	f, err := readFrame(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	r.ev.mu.Lock()
	t := r.ev.threads[f.Run]
	r.ev.mu.Unlock()
	switch f.Type {
	case tLoad:
		t.answers <- frame{Text: r.text}
	case tCall, tPrint, tSleep:
		t.answers <- frame{Value: []byte("{}")}
	}
	return len(b), nil
}

// FuzzToController has the controller hear any frame in a conversation.
func FuzzToController(f *testing.F) {
	for _, a := range frameAttacks() {
		if _, text, ok := strings.Cut(a.lie, ":"); ok {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(`{"t":"call","run":0,"seq":1,"name":"route.add","value":{"dst":"10.0.0.0/8"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &Program{cfg: Config{Ops: testOps, Cover: true}, runs: map[int64]*run{}, lastID: -1, gone: make(chan struct{})}
		r, _ := p.open("main.star:1:1", "web-1")
		defer r.timer.Stop()
		r.turn = time.Now()
		got, err := readFrame(bytes.NewReader(framed(text)))
		if err != nil || p.dispatch(got) != nil {
			return
		}
		if _, err := got.encode(); err != nil && !errors.Is(err, errFrameSize) {
			t.Errorf("%+v is read and cannot be written: %v", got, err)
		}
		select {
		case heard := <-r.in:
			c := conversation{p: p, node: web1, host: answers{}}
			c.out.to = func(string, string) error { return nil }
			if heard.Type == tDone {
				var h engine.Header
				if decode(heard.Header, &h) == nil {
					checkHeader(&h) //nolint:errcheck // it must not crash
				}
				if heard.Err != nil && len(heard.Err.scriptError("").Error()) > 4*maxText {
					t.Error("a long error")
				}
				return
			}
			if heard.Type == tLoad {
				checkName(heard.Name) //nolint:errcheck // it must not crash
			}
			c.answer(context.Background(), heard) //nolint:errcheck // it must not crash
		default:
		}
	})
}

// FuzzToEvaluator has the evaluator hear any frames of a controller: it may
// end, but not crash.
func FuzzToEvaluator(f *testing.F) {
	for _, text := range []string{
		`{"t":"answer","run":0,"value":{"a":[1,2.5,null,"x",{"b":1e300}]}}`, `{"t":"params","value":{"s":"x"}}`,
		`{"t":"cancel","run":0}`, `{"t":"limits","limits":{"steps":{"value":5}}}`, `{"t":"answer","err":{"code":6,"cause":"x","catch":true}}`,
		`{"t":"answer","value":{"a":1e999}}`, `{"t":"answer","value":{"a":"1e999\\"","b":[-1.5e3,{"c":null}],"a":2}}`,
		`{"t":"answer","value":` + strings.Repeat(`{"a":`, 62) + `{"a":[]}` + strings.Repeat("}", 62) + `}`, `{"t":"answer","value":` + strings.Repeat(`{"a":`, 63) + `{"a":1}` + strings.Repeat("}", 63) + `}`,
		`{"t":"answer","value":{"a":1` + strings.Repeat("0", 400) + `}}`,
	} {
		f.Add(framed([]byte(text)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		for {
			got, err := readFrame(in)
			if err != nil {
				return
			}
			for _, object := range []objects{asRecord("struct"), asDict} {
				v, err := fromJSON(got.Value, object)
				if err != nil {
					continue
				}
				show(v)
				toGo(v, maxDepth) //nolint:errcheck // it must not crash
			}
			late, lateErr := lazyRecord("struct", got.Value)
			if soon, err := fromJSON(got.Value, asRecord("struct")); (err == nil) != (lateErr == nil) || err == nil && show(soon) != show(late) {
				t.Errorf("%s is %v, %v when it is read at once, and %v, %v later", got.Value, soon, err, late, lateErr)
			}
			ops, _ := nodeOps(testOps)
			ev := &evaluator{nodeOps: ops}
			if got.Node != nil {
				ev.node(got.Node) //nolint:errcheck // it must not crash
			}
			ev.pool.setLimits(got.Limits)
			ev.pool.take(ev.pool.lease())
		}
	})
}

func framed(text []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}
