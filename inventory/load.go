package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"runbook/engine"
	"runbook/internal/yamlfile"
)

// This file finds out in which form an inventory is, and has it read.

// Load reads the inventory that -i names: see the package comment for the forms
// that it can have. The error says where in it something is wrong.
func Load(ctx context.Context, path string) (*Inventory, error) {
	src, err := open(ctx, path)
	if err != nil {
		return nil, err
	}
	return src.build()
}

// open reads the inventory at path.
func open(ctx context.Context, path string) (*source, error) {
	if file, ok := strings.CutPrefix(path, SSHConfig); ok {
		return readSSHConfig(path, file)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.IsDir() {
		return readFolder(ctx, path, abs)
	}
	in, err := inputOf(ctx, path)
	if err != nil {
		return nil, err
	}
	return in.source(ctx)
}

// unreadable is the error for a file that cannot be read.
func unreadable(path string, err error) *engine.Error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("inventory %s cannot be read: %v", path, err), Err: err}
}

// input is the text of an inventory, or of a part of one.
type input struct {
	file   string // as errors name it
	path   string // absolute: of the file, or of the one that the text comes from
	text   []byte
	script bool // an Ansible script has printed it
}

func (in input) dir() string { return filepath.Dir(in.path) }

// inputOf reads the file at path, or what it prints where it is a script.
func inputOf(ctx context.Context, path string) (input, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return input{}, unreadable(path, err)
	}
	in := input{file: path, path: abs}
	var reading error
	in.text, reading = readFile(path)
	if in.script, err = isScript(path, in.text); err != nil {
		return in, err
	}
	if !in.script { // a program may be as large as it likes
		if reading != nil {
			err = unreadable(path, reading)
		}
		return in, err
	}
	in.file = "output of " + path
	in.text, err = output(ctx, []string{abs, "--list"}, "", commandTime)
	return in, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	return text, errors.Join(err, f.Close())
}

// isScript reports whether a file is a program: it may be executed, and looks
// like one. On some file systems every file may be.
func isScript(path string, text []byte) (bool, error) {
	if !bytes.HasPrefix(text, []byte("#!")) && !bytes.HasPrefix(text, []byte("\x7fELF")) {
		return false, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, unreadable(path, err)
	}
	if info.Mode()&0o111 == 0 {
		return false, invalid(path+":1:1", "chmod +x "+path, "the inventory is a script that may not be executed")
	}
	return true, nil
}

// The forms of an inventory's text.
type form int

const (
	ownForm form = iota
	ansibleINI
	ansibleYAML
	ansibleJSON // what a script prints
)

var (
	yamlNames = []string{".yaml", ".yml", ".json"}
	iniNames  = []string{".ini", ".cfg"}
	// yamlLine is a first line that YAML has and INI has not.
	yamlLine = regexp.MustCompile(`^(---|%YAML|[{]|("[^"]*"|'[^']*'|[^\s\[\]#;:="'-][^\s\[\]:="']*)\s*:(\s|$))`)
)

// form returns the form of in, and its tree where it is YAML.
func (in input) form() (form, ast.Node, error) {
	if in.script {
		return ansibleJSON, nil, nil
	}
	text := bytes.TrimLeft(in.text, " \t\r\n\ufeff")
	if bytes.HasPrefix(text, []byte("{")) && bytes.Contains(text, []byte(`"_meta"`)) {
		return ansibleJSON, nil, nil
	}
	switch ext := strings.ToLower(filepath.Ext(in.file)); {
	case slices.Contains(yamlNames, ext):
	case slices.Contains(iniNames, ext), !yamlLine.Match(firstLine(in.text)):
		return ansibleINI, nil, nil
	}
	body, err := yamlfile.Reader{File: in.file}.Parse(in.text)
	if err != nil {
		return 0, nil, err
	}
	ansible, err := in.isAnsible(body)
	if ansible {
		return ansibleYAML, body, err
	}
	return ownForm, body, err
}

// firstLine is the first line that says something.
func firstLine(text []byte) []byte {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != ';' {
			return line
		}
	}
	return []byte("{") // nothing: our own reader has the words for that
}

// ownKeys are the keys of an inventory in our own form.
var ownKeys = []string{"defaults", "groups", "nodes", "from", "command", "timeout", "ssh_config"}

// isAnsible reports whether a YAML file is in Ansible's form: its keys are names
// of groups, which hold hosts, children or vars. What could be both is an error.
func (in input) isAnsible(body ast.Node) (bool, error) {
	top, ok := body.(ast.MapNode)
	if !ok {
		return false, nil
	}
	r := yamlfile.Reader{File: in.file}
	var own named
	ansible := ""
	for i := top.MapRange(); i.Next(); {
		key, ok := i.Key().(*ast.StringNode)
		if !ok {
			continue
		}
		switch {
		case slices.Contains(ownKeys, key.Value):
			own = named{key.Value, r.Pos(key.Token)}
		case key.Value == "all", key.Value == "plugin", isAnsibleGroup(i.Value()):
			ansible = key.Value
		}
	}
	if own.name != "" && ansible != "" {
		return false, invalid(own.pos, "", "%s is a key of runbook's inventories, and %s looks like a group of Ansible's: a file is one or the other", own.name, ansible)
	}
	return ansible != "", nil
}

// isAnsibleGroup reports whether n is what Ansible has as a group.
func isAnsibleGroup(n ast.Node) bool {
	if a, ok := n.(*ast.AnchorNode); ok {
		n = a.Value
	}
	group, ok := n.(ast.MapNode)
	if !ok {
		return false
	}
	for i := group.MapRange(); i.Next(); {
		if key, ok := i.Key().(*ast.StringNode); ok && slices.Contains([]string{"hosts", "children", "vars"}, key.Value) {
			return true
		}
	}
	return false
}

// source reads in, whatever its form.
func (in input) source(ctx context.Context) (*source, error) {
	f, body, err := in.form()
	if err != nil {
		return nil, err
	}
	if f == ownForm {
		return readOwn(ctx, in, body)
	}
	a := newAnsible(in.file)
	if err := a.read(in, f, body); err != nil {
		return nil, err
	}
	return a.finish(in.dir())
}

// skipped are the names of files in an inventory's folder that are none.
var skipped = []string{".pyc", ".pyo", ".swp", ".bak", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry", ".ini.j2", ".j2"}

// readFolder reads an Ansible inventory of several files, in the order of their names.
func readFolder(ctx context.Context, path, abs string) (*source, error) {
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, unreadable(path, err)
	}
	a := newAnsible(path)
	read := 0
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || slices.Contains(skipped, filepath.Ext(name)) {
			continue
		}
		in, err := inputOf(ctx, filepath.Join(path, name))
		if err != nil {
			return nil, err
		}
		f, body, err := in.form()
		if err == nil && f == ownForm {
			err = invalid(in.file+":1:1", "give the file itself: -i "+in.file, "a folder is an Ansible inventory, and this file of it is not Ansible's")
		}
		if err == nil {
			err = a.read(in, f, body)
		}
		if err != nil {
			return nil, err
		}
		read++
	}
	if read == 0 {
		return nil, invalid("", "", "inventory %s cannot be read: it is a folder without an inventory in it", path)
	}
	return a.finish(abs)
}
