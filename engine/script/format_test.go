package script

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestComments(t *testing.T) {
	text := "#a\nx = '#no' + \"#no\\\"#no\" # b \ny = \"\"\"#no\n'#no\"#no\"\"\"#c\nz = r'\\'#no'#d\nw = '' #e\nv = \"\"#f"
	if got, want := comments(text), []string{"#a", "# b", "#c", "#d", "#e", "#f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// checkFormat formats text, and holds the outcome to saying the same, with
// each comment, and to staying as it is when it is formatted again. It returns what is not formatted.
func checkFormat(t *testing.T, text string) error {
	t.Helper()
	was, err := outline("main.star", text)
	if err != nil {
		if _, err := formatText("main.star", text); err == nil {
			t.Fatalf("what is not Starlark is formatted: %q", text)
		}
		return nil
	}
	out, err := formatText("main.star", text)
	if err != nil {
		return err // the file stays as it is
	}
	now, err := outline("main.star", out)
	if err != nil || !slices.Equal(was, now) {
		t.Fatalf("%q becomes %q, which says something else: %v\n%q\n%q", text, out, err, was, now)
	}
	if again, err := formatText("main.star", out); err != nil || again != out {
		t.Fatalf("%q becomes %q, and formatted again %q, %v", text, out, again, err)
	}
	return nil
}

// FuzzFormat formats any text.
func FuzzFormat(f *testing.F) {
	var seeds []string // which all can be formatted
	for _, pattern := range []string{"testdata/*.star", "testdata/check/*.star", "../../runbooks/*.star"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, chunk := range strings.Split(string(text), "\n---\n") {
				f.Add(chunk)
				seeds = append(seeds, chunk)
			}
		}
	}
	for _, text := range []string{
		"#a\nx=1#b\n#c\n", "f(#a\n1,#b\n#c\n2,#d\n)#e\n#f\n", "x=[#a\n]#b\n", "x={#a\n1:#b\n2,#c\n}", "def f(a,#a\n#b\n*b):#c\n  #d\n  pass#e\n  #f\n#g\n",
		"if x:#a\n  y()#b\n#c\nelif z:#d\n  #e\n  w()\nelse:#f\n  #g\n  pass\n", "x=(1#a\n+2)#b\n", "load(#a\n'a.star',#b\n'x'#c\n)", "x = 1 # a\\\n", "x=[a#b\nfor a in c#d\nif e#f\n]", "x=1;y=2 #a",
		"x='''a\n#b'''#c", "for a in b:#c\n  d()\n\n\n  #e\nx=1\n\n\n\n#f\n\n#g", "x = lambda: (1, #a\n)", "x[#a\n1:#b\n2]", "x.#a\ny", "return_ = 1\n\t\n#\t a \t\n", "x=1\r\n#a\r\ny=2", "def f():\n    'doc'\n    #a\n",
	} {
		f.Add(text)
		seeds = append(seeds, text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := checkFormat(t, text); err != nil && slices.Contains(seeds, text) {
			t.Errorf("%q is not formatted: %v", text, err)
		}
	})
}
