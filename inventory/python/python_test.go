package python

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestLiteral holds values to what Python makes of them: testdata/literals.json
// has what ast.literal_eval of Python 3.11 answered.
func TestLiteral(t *testing.T) {
	b, err := os.ReadFile("testdata/literals.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text   string
		Value  json.RawMessage
		Unread bool
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) < 100 {
		t.Fatal(len(cases), err)
	}
	for _, c := range cases {
		got := Literal(c.Text)
		if _, unread := got.(Unread); unread || c.Unread {
			if unread != c.Unread {
				t.Errorf("%q: got %T %v, want unread: %v", c.Text, got, got, c.Unread)
			}
			continue
		}
		want := json.NewDecoder(bytes.NewReader(c.Value))
		want.UseNumber()
		var v any
		if err := want.Decode(&v); err != nil || !reflect.DeepEqual(got, typed(v)) {
			t.Errorf("%q: got %T %v (%v), want %s", c.Text, got, got, err, c.Value)
		}
	}
}

// typed gives the numbers in v the types that Python's have.
func typed(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = typed(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = typed(v[k])
		}
	}
	return v
}

// TestSplit: testdata/words.json has what shlex.split of Python 3.11 answered.
func TestSplit(t *testing.T) {
	b, err := os.ReadFile("testdata/words.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Line  string
		Words []string // null: an error
	}
	if err := json.Unmarshal(b, &cases); err != nil || len(cases) < 20 {
		t.Fatal(len(cases), err)
	}
	for _, c := range cases {
		words, err := Split(c.Line, true)
		var got []string
		for _, w := range words {
			got = append(got, w.Text)
		}
		if (err != nil) != (c.Words == nil) || strings.Join(got, "\x00") != strings.Join(c.Words, "\x00") {
			t.Errorf("%q: got %q (%v), want %q", c.Line, got, err, c.Words)
		}
	}
}

// FuzzLiteral: whatever the text, there is a value.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"", "[1, (2,), {'a': None}]", "'a' \"b\"", "-1_0.5e3", `"\x41\101\u00e9"`, strings.Repeat("[", 1000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := json.Marshal(Literal(s)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		Split(s, true) //nolint:errcheck // it must not panic
	})
}
