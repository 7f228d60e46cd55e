package script

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"runbook/engine"
)

func TestSourceFromDisk(t *testing.T) {
	dir := write(t, map[string]string{
		"main.star":         "load('lib/routes.star', 'dst')\nload('common.star', c = 'common')\nrunbook()\ndef run(node, p):\n    expect(dst == c + '/16', dst)\n",
		"lib/routes.star":   "load('common.star', 'common')\ndst = common + '/16'\n",
		"common.star":       "common = '10.20.0.0'\n",
		"never-loaded.star": "",
	})
	p, err := start(t, Config{}, engine.Source{Main: filepath.Join(dir, "main.star")})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), web1, &host{}); err != nil {
		t.Error(err)
	}
	src := p.Source()
	if len(src.Files) != 3 || src.Files["lib/routes.star"] == "" || src.Files["common.star"] == "" || src.Files["main.star"] == "" {
		t.Fatalf("files %v", src.Files)
	}

	// From a saved plan, the disk is not needed, and positions are the same.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	again, err := start(t, Config{}, src)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Run(t.Context(), web1, &host{}); err != nil {
		t.Error(err)
	}
	if again.Source().Hash() != src.Hash() {
		t.Error("the hash has changed")
	}
}

func TestSourceErrors(t *testing.T) {
	dir := write(t, map[string]string{
		"main.star":        "\n\nload('lib.star', 'x')\nrunbook()\ndef run(node, p):\n    pass\n",
		"books/main.star":  "load('lib.star', 'x')\nrunbook()\ndef run(node, p):\n    pass\n",
		"outside/lib.star": "x = 1\n",
	})
	lib := filepath.Join(dir, "books/lib.star")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		make  func()
		cause string
		pos   string
	}{
		{"missing", func() {}, "lib.star: there is no such file", "main.star:1:1"},
		{"link that leads outside", func() { must(os.Symlink("../outside/lib.star", lib)) }, "it is a link that leads out of the runbook's folder", "main.star:1:1"},
		{"absolute link", func() { must(os.Symlink(filepath.Join(dir, "outside/lib.star"), lib)) }, "leads out of the runbook's folder", "main.star:1:1"},
		{"link that leads to itself", func() { must(os.Symlink("lib.star", lib)) }, "lib.star: ", "main.star:1:1"},
		{"folder", func() { must(os.Mkdir(lib, 0o755)) }, "it is not a regular file", "main.star:1:1"},
		{"named pipe", func() { must(syscall.Mkfifo(lib, 0o644)) }, "it is not a regular file", "main.star:1:1"},
		{"too large", func() { must(os.WriteFile(lib, make([]byte, maxSource+1), 0o644)) }, "it has 262145 bytes, and a file can have 262144", "main.star:1:1"},
		{"syntax", func() { must(os.WriteFile(lib, []byte("x = \n"), 0o644)) }, "got newline", "lib.star:1:5"},
		{"cycle", func() { must(os.WriteFile(lib, []byte("load('main.star', 'run')"), 0o644)) }, "main.star is loaded while it is being loaded: a cycle", "lib.star:1:1"},
		{"name", func() { must(os.WriteFile(lib, []byte("xx = 1"), 0o644)) }, "load: name x not found in module lib.star", "main.star:1:1"},
		{"header", func() { must(os.WriteFile(lib, []byte("runbook()"), 0o644)) }, "belongs at the top level of the main file", "lib.star:1:8"},
		{"run time", func() { must(os.WriteFile(lib, []byte("def f():\n  1//0\nf()"), 0o644)) }, "division by zero", "lib.star:2:4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			os.RemoveAll(lib)
			tt.make()
			main := filepath.Join(dir, "books/main.star")
			_, err := start(t, Config{}, engine.Source{Main: main})
			e := wantError(t, err, engine.Invalid)
			if !strings.Contains(e.Cause, tt.cause) || e.Pos != filepath.Join(dir, "books", tt.pos) {
				t.Errorf("%v; want %q at %s", e, tt.cause, tt.pos)
			}
		})
	}
}

func TestMainFile(t *testing.T) {
	dir := write(t, map[string]string{
		"books/real.star": "runbook()\ndef run(node, p):\n    pass\n",
		"books/notes.txt": "",
		"links/keep.star": "",
	})
	if err := os.Symlink("../books/real.star", filepath.Join(dir, "links/main.star")); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, Config{}, engine.Source{Main: filepath.Join(dir, "links/main.star")}); err != nil {
		t.Errorf("a link that the operator names: %v", err)
	}
	for name, cause := range map[string]string{
		"books/none.star": "there is no such file",
		"books/notes.txt": "ends in .star",
		"nowhere/x.star":  "there is no such file",
	} {
		_, err := start(t, Config{}, engine.Source{Main: filepath.Join(dir, name)})
		e := wantError(t, err, engine.Invalid)
		if !strings.Contains(e.Error(), cause) || !strings.Contains(e.Error(), name) {
			t.Errorf("%v, want %s", e, cause)
		}
	}
}
