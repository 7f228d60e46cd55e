package script

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// loadAttacks are on what load(…) reads: names, links, and files that are none.
func loadAttacks(t *testing.T) []attack {
	const run = "runbook()\ndef run(node, p):\n    pass\n"
	files := map[string]string{
		"ok.star":      "x = 1\n",
		"private.star": "load('ok.star', x = '_x')\n",
		"self.star":    "load('self.star', 'x')\n",
		"a.star":       "load('b.star', 'x')\n",
		"b.star":       "load('a.star', 'x')\n",
		"large.star":   "x = '" + long("x", 256<<10) + "'\n",
		"plain.txt":    "x = 1\n",
		"deep.star":    "x = " + long("[", 100_000),
	}
	for i := range 120 {
		files[fmt.Sprintf("many/f%d.star", i)] = fmt.Sprintf("load('many/f%d.star', 'x')\n", i+1)
	}
	for i := range 20 { // each within its bound, all beyond theirs
		files[fmt.Sprintf("sum/f%d.star", i)] = "x = 1\n#" + long("x", 250<<10)
	}
	dir := write(t, files)
	outside := write(t, map[string]string{"secret.star": "x = 1\n"})
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "secret.star"), "link.star")
	link("../"+filepath.Base(outside)+"/secret.star", "relative.star")
	link(outside, "folder")
	link("loop.star", "loop.star")
	link(outside+"/none.star", "dangling.star")
	link("folder/secret.star", "swap.star") // within, through a folder that is not
	link("main51.star", "back.star")        // the runbook that loads it
	link("/dev/zero", "zero.star")
	link("/proc/self/environ", "environ.star")
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.star"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.star"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const own = `own folder`
	const leads = `leads out`
	var out []attack
	for i, l := range []struct{ name, want string }{
		{"../secret.star", own},
		{"a/../../secret.star", own},
		{"./ok.star", `plain relative path`},
		{"a//ok.star", `plain relative path`},
		{"/etc/passwd", `ends in .star`},
		{"/etc/passwd.star", `not absolute`},
		{filepath.Join(outside, "secret.star"), `not absolute`},
		{"link.star", leads},
		{"relative.star", leads},
		{"folder/secret.star", leads},
		{"loop.star", `too many levels`},
		{"zero.star", leads},
		{"environ.star", leads},
		{"fifo.star", `not a regular file`},
		{"dir.star", `not a regular file`},
		{"plain.txt", `ends in .star`},
		{"", `ends in .star`},
		{".star", `no such file`},
		{"x\\x00.star", `plain relative path`},
		{"x\\n.star", `plain relative path`},
		{"c:x.star", `plain relative path`},
		{"x\\\\..\\\\y.star", `plain relative path`},
		{long("d/", 200) + "x.star", `plain relative path`},
		{long("x", 200_000) + ".star", `…`},
		{"\\u202egpj.star", `plain relative path`},
		{"self.star", `cycle`},
		{"a.star", `cycle`},
		{"large.star", `a file can have 262144`},
		{"deep.star", tooDeep},
		{"many/f0.star", `can have 100 files`},
		{"nonexistent.star", `no such file`},
		{"OK.star", `no such file`},
		{"ok.STAR", `ends in .star`},
		{"ok.star ", `ends in .star`},
		{"ok.star/", `ends in .star`},
		{"ok.star/.star", `not a directory`},
		{" ok.star", `no such file`},
		{"%6fk.star", `no such file`},
		{"file:///etc/x.star", `plain relative path`},
		{"//repo:x.star", `not absolute`},
		{"~/x.star", `no such file`},
		{"$HOME/x.star", `no such file`},
		{"*.star", `no such file`},
		{"-.star", `no such file`},
		{"...star", `no such file`},
		{".../x.star", `no such file`},
		{"..", `ends in .star`},
		{"\\u002e./x.star", `own folder`},
		{"private.star", `private|underscore|not exported`},
		{"swap.star", leads},
		{"dangling.star", leads + `|no such file`},
		{"back.star", `cycle`},
	} {
		main := text(fmt.Sprintf("main%d.star", i), fmt.Sprintf("load('%s', 'x')\n", l.name)+run)
		out = append(out, attack{name: fmt.Sprintf("load: %.30q", l.name), file: main, want: l.want})
	}
	var all strings.Builder
	for i := range 20 {
		fmt.Fprintf(&all, "load('sum/f%d.star', x%d = 'x')\n", i, i)
	}
	return append(out, attack{name: "load: 5 MB in all", file: text("sum.star", all.String()+run), want: `4194304 bytes together`})
}
