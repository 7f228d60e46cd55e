// Package rehearse runs the tests of runbooks: the functions test_…(t) of
// X_test.star, which lies beside X.star. Each makes simulated nodes, runs the runbook on
// them as a real run would be, and says what it expects.
//
//	def test_adds_the_route(t):
//	    t.node("web-1")                                     # a node of a lab
//	    t.run(params = {"dst": "10.20.0.0/16", "via": "10.98.0.1"}, diff = """
//	        + route 10.20.0.0/16 via 10.98.0.1 dev eth1
//	    """)
//	    t.run(params = {"dst": "10.20.0.0/16", "via": "10.98.0.1"}, diff = "")     # again: nothing to do
//
//	def test_gateway_must_be_on_link(t):
//	    t.node("web-1")
//	    t.run(params = {"dst": "10.20.0.0/16", "via": "192.0.2.1"})  ### "not on-link"
//
// The hooks of the runbook are called as a real run calls them, and a gate that does not
// pass is an error of the run:
//
//	def test_the_gate_keeps_off_what_has_another_way(t):
//	    t.node("web-1", routes = [{"dst": "10.30.0.0/16", "via": "10.98.0.9"}])
//	    t.run()  ### "gate: web-1 has another way"
//
// A line that is to fail says so: ### "regexp", for what the error says. A test that
// does not fail there has failed.
package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"runbook/engine"
	"runbook/engine/script"
)

// Suffix is how the name of a test file ends.
const Suffix = script.TestSuffix

// Result is how one test ended.
type Result struct {
	File string        `json:"file"`
	Name string        `json:"test"`            // "": the file as a whole
	Err  *engine.Error `json:"error,omitempty"` // nil: it passed
	Took time.Duration `json:"-"`

	Prints []string `json:"prints,omitempty"` // what the test printed
}

// Report is how all tests ended, and the lines of the runbooks that they reached.
type Report struct {
	Results []Result
	Cover   script.Coverage
}

// Failed counts the tests that failed.
func (r Report) Failed() int {
	n := 0
	for _, t := range r.Results {
		if t.Err != nil {
			n++
		}
	}
	return n
}

// Find returns the test files in or below dir, or the file itself, in order.
func Find(path string) ([]string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, engine.Invalid.Errorf("%s: there is no such file", path)
	} else if err != nil {
		return nil, engine.Invalid.Errorf("%w", err)
	}
	if !info.IsDir() {
		if !strings.HasSuffix(path, Suffix) {
			return nil, &engine.Error{Code: engine.Invalid, Cause: path + " is not a test file", Hint: "the tests of edge.star are in edge" + Suffix}
		}
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(p, Suffix) {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		return nil, engine.Invalid.Errorf("%w", err)
	}
	if len(out) == 0 {
		return nil, &engine.Error{Code: engine.Invalid, Cause: "there is no test in " + path, Hint: "the tests of edge.star are in edge" + Suffix + ", as def test_something(t):"}
	}
	slices.Sort(out)
	return out, nil
}

// testTime is how long one test may take.
var testTime = 5 * time.Minute

// Run runs the tests of files whose names match, and tells of each. cfg.Ops is what
// the runbooks may ask. A file that is no test file has failed as a whole; the others are run.
func Run(ctx context.Context, files []string, match *regexp.Regexp, cfg script.Config, tell func(Result)) (Report, error) {
	report := Report{Cover: script.Coverage{}}
	for _, file := range files {
		f := testFile{
			path: file, cfg: cfg, met: map[int]bool{}, cover: report.Cover,
			tell: func(r Result) {
				tell(r)
				r.Prints = nil
				report.Results = append(report.Results, r)
			},
		}
		started := time.Now()
		err := f.run(ctx, match)
		if ctx.Err() != nil {
			return report, engine.AsError(context.Cause(ctx))
		}
		if err != nil {
			f.tell(Result{File: file, Err: engine.AsError(err), Took: time.Since(started)})
		}
	}
	return report, nil
}

// testFile is one file on its way.
type testFile struct {
	path     string
	cfg      script.Config
	tests    *script.Tests
	expected map[int]*regexp.Regexp // by the line that is to fail
	met      map[int]bool           // those that were reached
	cover    script.Coverage
	tell     func(Result)
}

// run runs its tests. The error is about the file.
func (f *testFile) run(ctx context.Context, match *regexp.Regexp) error {
	if err := f.start(ctx); err != nil {
		return err
	}
	defer func() { f.tests.Close() }() //nolint:errcheck // it ends by itself
	for _, name := range f.tests.Names() {
		if match != nil && !match.MatchString(name) {
			continue
		}
		if f.tests.Ended() { // the test before this one went beyond a limit
			if err := f.start(ctx); err != nil {
				return err
			}
		}
		f.test(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for _, line := range slices.Sorted(maps.Keys(f.expected)) {
		if match == nil && !f.met[line] {
			f.tell(Result{File: f.path, Err: &engine.Error{Code: engine.Invalid, Pos: fmt.Sprintf("%s:%d:1", f.path, line), Cause: "this line was to fail, and is never reached"}})
		}
	}
	return nil
}

// start loads the file into an evaluator of its own.
func (f *testFile) start(ctx context.Context) error {
	own := f.cfg
	own.Ops = Operations
	tests, err := script.StartTests(ctx, own, engine.Source{Main: f.path})
	if err != nil {
		return err
	}
	f.tests = tests
	f.expected, err = expectations(f.path, tests.Source().Files[filepath.Base(f.path)])
	if err != nil {
		tests.Close() //nolint:errcheck // it ends by itself
	}
	return err
}

// test runs one test, and tells how it ended.
func (f *testFile) test(ctx context.Context, name string) {
	started := time.Now()
	over := engine.LimitHit.Errorf("the test has run for %s, which is the most", testTime)
	limited, cancel := context.WithTimeoutCause(ctx, testTime, over)
	defer cancel()
	h := &host{
		file: f.path, cfg: f.cfg, expected: f.expected, met: f.met, cover: f.cover,
		nodes: map[string]engine.Node{}, sockets: map[string][]netip.AddrPort{}, programs: map[string]*script.Program{},
	}
	err := f.tests.RunTest(limited, name, h)
	h.close()
	if ctx.Err() != nil {
		return // nobody waits for it
	}
	if e := engine.AsError(err); e != nil && !h.failed { // it may be the test's own: an expect of which it is said that it fails
		if _, expected := h.judge(e.Pos, e); expected {
			err = nil
		}
	}
	f.tell(Result{File: f.path, Name: name, Err: engine.AsError(err), Took: time.Since(started), Prints: h.prints})
}

var expectation = regexp.MustCompile(`### ("(?:[^"\\]|\\.)*")\s*$`)

// expectations reads the lines of a test file, text, that say that they fail, and how.
func expectations(file, text string) (map[int]*regexp.Regexp, error) {
	out := map[int]*regexp.Regexp{}
	for i, l := range strings.Split(text, "\n") {
		m := expectation.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		pattern, err := strconv.Unquote(m[1])
		if err == nil {
			out[i+1], err = regexp.Compile(pattern)
		}
		if err != nil {
			return nil, &engine.Error{Code: engine.Invalid, Pos: fmt.Sprintf("%s:%d:1", file, i+1), Cause: "### " + m[1] + " is not a regular expression"}
		}
	}
	return out, nil
}
