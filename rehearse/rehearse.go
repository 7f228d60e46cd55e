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
// A line that is to fail says so: ### "regexp", for what the error says. A test that
// does not fail there has failed.
package rehearse

import (
	"context"
	"fmt"
	"maps"
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
const Suffix = "_test.star"

// Result is how one test ended.
type Result struct {
	File string        `json:"file"`
	Name string        `json:"test"`
	Err  *engine.Error `json:"error,omitempty"` // nil: it passed
	Took time.Duration `json:"-"`
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
	if err != nil {
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

// Run runs the tests of files whose names match, and tells of each. ops is what
// the runbooks may ask.
func Run(ctx context.Context, files []string, match *regexp.Regexp, cfg script.Config, tell func(Result)) (Report, error) {
	report := Report{Cover: script.Coverage{}}
	for _, f := range files {
		if err := runFile(ctx, f, match, cfg, &report, tell); err != nil {
			return report, err
		}
	}
	return report, nil
}

func runFile(ctx context.Context, file string, match *regexp.Regexp, cfg script.Config, report *Report, tell func(Result)) error {
	expected, err := expectations(file)
	if err != nil {
		return err
	}
	own := cfg
	own.Ops = Operations
	tests, err := script.StartTests(ctx, own, engine.Source{Main: file})
	if err != nil {
		return err
	}
	defer tests.Close() //nolint:errcheck // it ends by itself
	met := map[int]bool{}
	done := func(name string, err error, started time.Time) {
		r := Result{File: file, Name: name, Err: engine.AsError(err), Took: time.Since(started)}
		report.Results = append(report.Results, r)
		tell(r)
	}
	for _, name := range tests.Names() {
		if match != nil && !match.MatchString(name) {
			continue
		}
		started := time.Now()
		h := &host{
			file: file, cfg: cfg, expected: expected, met: met, cover: report.Cover,
			nodes: map[string]engine.Node{}, programs: map[string]*script.Program{},
		}
		err := tests.RunTest(ctx, name, h)
		h.close()
		if ctx.Err() != nil {
			return engine.AsError(ctx.Err())
		}
		if e := engine.AsError(err); e != nil && !h.failed { // it may be the test's own: an expect of which it is said that it fails
			if _, expected := h.judge(e.Pos, e); expected {
				err = nil
			}
		}
		done(name, err, started)
	}
	for _, line := range slices.Sorted(maps.Keys(expected)) {
		if match == nil && !met[line] {
			done("", &engine.Error{Code: engine.Invalid, Pos: fmt.Sprintf("%s:%d:1", file, line), Cause: "this line was to fail, and is never reached"}, time.Now())
		}
	}
	return nil
}

var expectation = regexp.MustCompile(`### ("(?:[^"\\]|\\.)*")\s*$`)

// expectations reads the lines of a test file that say that they fail, and how.
func expectations(file string) (map[int]*regexp.Regexp, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, engine.Invalid.Errorf("%w", err)
	}
	out := map[int]*regexp.Regexp{}
	for i, l := range strings.Split(string(text), "\n") {
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
