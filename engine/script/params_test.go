package script

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
)

var allParams = engine.Header{Params: []engine.Param{
	{Name: "s", Type: "string", Doc: "a text", Default: "x"},
	{Name: "n", Type: "int", Default: int64(3)},
	{Name: "b", Type: "bool", Default: false},
	{Name: "addr", Type: "ip", Default: nil},
	{Name: "net", Type: "prefix", Default: "10.0.0.0/8"},
	{Name: "wait", Type: "duration", Default: "1m"},
	{Name: "how", Type: "choice", Choices: []string{"fast", "safe"}, Default: "safe"},
}}

func TestBindParams(t *testing.T) {
	tests := []struct {
		arg, want string // want is the value as JSON, or else part of the error
	}{
		{"s=", `""`},
		{"n=-5", `-5`},
		{"n=9223372036854775807", `9223372036854775807`},
		{"n=9223372036854775808", `parameter n: want a whole number such as 8, got "9223372036854775808"`},
		{"n=1e3", `want a whole number`},
		{"b=true", `true`},
		{"b=True", `parameter b: want true or false, got "True"`},
		{"addr=FD00:0::1", `"fd00::1"`},
		{"addr=10.0.0.1/8", `parameter addr: want an IP address such as 192.0.2.1, got "10.0.0.1/8"`},
		{"net=fd00:0::/8", `"fd00::/8"`},
		{"net=10.20.0.1/16", `parameter net: 10.20.0.1/16 has host bits set: did you mean 10.20.0.0/16`},
		{"net=fd00::1/64", `fd00::1/64 has host bits set: did you mean fd00::/64`},
		{"net=10.20.0.1", `want a prefix such as 10.20.0.0/16, got "10.20.0.1": did you mean 10.20.0.1/32`},
		{"wait=90s", `"1m30s"`},
		{"wait=90", `parameter wait: want a duration such as "30s", got "90"`},
		{"how=fast", `"fast"`},
		{"how=fats", `parameter how: want one of fast, safe, got "fats" (did you mean fast?)`},
		{"hwo=fast", `the runbook has no parameter hwo (did you mean how?)`},
	}
	for _, tt := range tests {
		t.Run(tt.arg, func(t *testing.T) {
			name, text, _ := strings.Cut(tt.arg, "=")
			values, err := BindParams(allParams, map[string]string{name: text})
			if err != nil {
				if e := wantError(t, err, engine.Invalid); !strings.Contains(e.Cause, tt.want) {
					t.Errorf("error %q, want %s", e, tt.want)
				}
				return
			}
			if got, _ := json.Marshal(values[name]); string(got) != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if len(values) != len(allParams.Params) {
				t.Errorf("values for %v only", slices.Sorted(maps.Keys(values)))
			}
		})
	}
}

// A header that has been saved has lost the types of its numbers.
func TestBindParamsOfSavedHeader(t *testing.T) {
	b, err := json.Marshal(allParams)
	if err != nil {
		t.Fatal(err)
	}
	var h engine.Header
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	values, err := BindParams(h, nil)
	if err != nil || values["n"] != int64(3) || values["addr"] != nil {
		t.Errorf("%#v, %v", values, err)
	}
}

func TestMissingParams(t *testing.T) {
	h := engine.Header{Params: []engine.Param{
		{Name: "dst", Type: "prefix", Doc: "destination network", Required: true},
		{Name: "dev", Type: "string", Doc: "interface", Default: "eth1"},
		{Name: "via", Type: "ip", Doc: "next hop", Required: true},
	}}
	_, err := BindParams(h, nil)
	const want = "missing: dst (destination network), via (next hop)"
	if e := wantError(t, err, engine.Invalid); e.Cause != want {
		t.Errorf("%q, want %q", e.Cause, want)
	}
}

func TestBind(t *testing.T) {
	p, err := start(t, Config{}, source(`
runbook(params = {
    "dst": param.prefix("destination"),
    "n": param.int("number", default = 9007199254740993),
    "none": param.ip("may be left out", default = None),
})
def run(node, p):
    expect((p.dst, p.n, p.none) == ("10.20.0.0/16", 9007199254740993, None), str(p))
`))
	if err != nil {
		t.Fatal(err)
	}
	e := wantError(t, p.Run(t.Context(), web1, &host{}), engine.Invalid)
	if !strings.Contains(e.Cause, "missing: dst (destination)") {
		t.Error(e)
	}
	if err := p.Bind(map[string]string{"dst": "10.20.0.0/16"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), web1, &host{}); err != nil {
		t.Error(err)
	}
}

func TestHeader(t *testing.T) {
	p, err := start(t, Config{}, source(`"""Add a route.

  With care.
"""
runbook(
    params = {"b": param.int("second", default = 2), "a": param.string("first")},
    limits = limits(nodes = 7, duration = "5m"),
)
def run(node, p):
    pass
`))
	if err != nil {
		t.Fatal(err)
	}
	limits := engine.Limits{
		engine.LimitNodes:    {N: 7, Source: "books/main.star:7:20"},
		engine.LimitDuration: {N: 5 * 60e9, Source: "books/main.star:7:20"},
	}
	got, _ := json.Marshal(p.Header())
	want, _ := json.Marshal(engine.Header{
		Doc: "Add a route.\n\nWith care.",
		Params: []engine.Param{
			{Name: "b", Type: "int", Doc: "second", Default: 2},
			{Name: "a", Type: "string", Doc: "first", Required: true},
		},
		Limits:  limits,
		Rollout: engine.Rollout{Waves: []string{"1", "100%"}},
	})
	if string(got) != string(want) {
		t.Errorf("header\n%s, want\n%s", got, want)
	}
	if _, ok := p.Header().Params[0].Default.(int64); !ok {
		t.Errorf("a number came as %T", p.Header().Params[0].Default)
	}
}
