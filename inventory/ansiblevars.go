package inventory

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"runbook/internal/yamlfile"
)

// This file reads what Ansible keeps beside an inventory: group_vars/GROUP and
// host_vars/HOST, each a YAML file, also with the ending .yml, .yaml or .json, or a
// folder of such files, which are read in the order of their names.

// vaultMark begins a file that is encrypted as a whole.
const vaultMark = "$ANSIBLE_VAULT;"

var varsEndings = []string{"", ".yml", ".yaml", ".json"}

// beside reads all that lies beside the inventory, in dir.
func (a *ansible) beside(dir string) error {
	groups, err := namesIn(filepath.Join(dir, "group_vars"))
	if err != nil {
		return err
	}
	if err := a.fileVars(groups, allGroup, &a.src.defaults.beside); err != nil {
		return err
	}
	for _, g := range a.src.groups.list {
		if err := a.fileVars(groups, g.name, &g.beside); err != nil {
			return err
		}
	}
	hosts, err := namesIn(filepath.Join(dir, "host_vars"))
	if err != nil {
		return err
	}
	for _, m := range a.src.nodes.list {
		if err := a.fileVars(hosts, m.name, &m.beside); err != nil {
			return err
		}
	}
	return nil
}

// varsFolder is a folder, and the names in it.
type varsFolder struct {
	path  string
	names map[string]bool
}

// namesIn reads a folder. One that is not there has no names.
func namesIn(path string) (varsFolder, error) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return varsFolder{}, unreadable(path, err)
	}
	f := varsFolder{path, make(map[string]bool, len(entries))}
	for _, e := range entries {
		f.names[e.Name()] = true
	}
	return f, nil
}

// fileVars reads what folder has for a name: the first of the endings that is there.
func (a *ansible) fileVars(folder varsFolder, name string, to *settings) error {
	for _, ending := range varsEndings {
		if !folder.names[name+ending] {
			continue
		}
		path := filepath.Join(folder.path, name+ending)
		for _, other := range varsEndings {
			if other != ending && folder.names[name+other] {
				a.notes.add("beside %s lie others for the same name, which Ansible does not read either", name+ending, path)
			}
		}
		return a.varsIn(path, to, 0)
	}
	return nil
}

// varsIn reads a file of variables, or a folder of such.
func (a *ansible) varsIn(path string, to *settings, depth int) error {
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(path, err)
	}
	if !info.IsDir() {
		return a.varsFile(path, to)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return unreadable(path, err)
	}
	if depth > maxDepth {
		return invalid("", "", "%s: folders are nested more than %d deep", path, maxDepth)
	}
	for _, e := range entries {
		name := e.Name()
		ending := filepath.Ext(name)
		full := filepath.Join(path, name)
		info, err := os.Stat(full)
		switch {
		case strings.HasPrefix(name, "."), strings.HasSuffix(name, "~"):
			continue
		case err != nil:
			return unreadable(full, err)
		case info.IsDir() && ending == "":
			err = a.varsIn(full, to, depth+1)
		case !info.IsDir() && slices.Contains(varsEndings, ending):
			err = a.varsFile(full, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// varsFile reads one file of variables.
func (a *ansible) varsFile(path string, to *settings) error {
	text, err := readFile(path)
	if err != nil {
		return unreadable(path, err)
	}
	file := a.shown(path)
	if bytes.HasPrefix(text, []byte(vaultMark)) {
		a.notes.add("%s: encrypted as a whole, so nothing in it is read, not even how hosts are reached", filepath.Base(path), file+":1:1")
		return nil
	}
	y := &yaml11{Reader: yamlfile.Reader{File: file}, anchors: map[string]ast.Node{}}
	body, err := y.Parse(text)
	if err != nil {
		return err
	}
	return y.vars(body, "the variables", to.set)
}

// shown is path as errors name it: as the inventory was named, where it can be.
func (a *ansible) shown(path string) string {
	dir := a.src.file
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(abs, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return filepath.Join(dir, rel)
}
