package script

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"runbook/engine"
)

// This file reads the texts of a runbook, on the controller. The evaluator
// names the files, so nothing about a name is taken for granted.

const (
	maxSource = 256 << 10 // bytes of one file: compiling is quadratic in the worst case
	maxFiles  = 100       // of one runbook
	maxTexts  = 4 << 20   // bytes of all files of one runbook
)

// tree is where the files of a runbook come from: the folder of its main file,
// or the texts that a plan has kept.
type tree struct {
	source engine.Source
	saved  bool            // nothing is read from the disk
	loaded map[string]bool // what was asked for
	bytes  int             // of all that was
	root   *os.Root        // the folder of the main file; nil if saved
}

// openTree opens the folder of src.Main; where src has texts, these are all
// that there is.
func openTree(src engine.Source) (*tree, error) {
	t := &tree{loaded: map[string]bool{}, source: engine.Source{Main: src.Main, Files: map[string]string{}}}
	if len(src.Files) > 0 {
		t.saved = true
		t.source.Files = src.Files
		return t, nil
	}
	root, err := os.OpenRoot(filepath.Dir(src.Main))
	if err != nil {
		return nil, engine.Invalid.Errorf("%s: %w", src.Main, reason(err))
	}
	t.root = root
	return t, nil
}

func (t *tree) close() {
	if t.root != nil {
		t.root.Close()
	}
}

// main is the name of the main file within the tree.
func (t *tree) main() string { return filepath.Base(t.source.Main) }

// dir is what comes before the names of files where people read them.
func (t *tree) dir() string { return filepath.ToSlash(filepath.Dir(t.source.Main)) }

// load returns the text of the file called name, within what all may have together.
func (t *tree) load(name string) (string, error) {
	text, err := t.text(name)
	if err != nil || t.loaded[name] {
		return text, err
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) { // Starlark would take a NUL for the end
		return "", errors.New("it is not text: it has NUL bytes, or is not UTF-8")
	}
	if t.bytes+len(text) > maxTexts {
		return "", fmt.Errorf("the files of a runbook can have %d bytes together, and with this one they have %d", maxTexts, t.bytes+len(text))
	}
	t.bytes += len(text)
	t.loaded[name] = true
	return text, nil
}

func (t *tree) text(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if text, ok := t.source.Files[name]; ok {
		if len(text) > maxSource {
			return "", tooLarge(int64(len(text)))
		}
		return text, nil
	}
	if t.saved {
		return "", errors.New("it is not among the saved files of this runbook")
	}
	if len(t.source.Files) == maxFiles {
		return "", fmt.Errorf("a runbook can have %d files, and this would be one more", maxFiles)
	}
	text, err := t.read(name)
	if err != nil {
		return "", err
	}
	t.source.Files[name] = text
	return text, nil
}

// read opens name without leaving the tree, whatever links are in the way. It
// does not wait for the writer of a named pipe.
func (t *tree) read(name string) (string, error) {
	open := t.root.OpenFile
	if name == t.main() { // the operator named it: where it is a link, that is followed
		name, open = t.source.Main, os.OpenFile
	}
	f, err := open(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", reason(err)
	case !info.Mode().IsRegular():
		return "", errors.New("it is not a regular file")
	case info.Size() > maxSource:
		return "", tooLarge(info.Size())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	switch {
	case err != nil:
		return "", reason(err)
	case len(text) > maxSource:
		return "", tooLarge(int64(len(text)))
	}
	return string(text), nil
}

func tooLarge(size int64) error {
	return fmt.Errorf("it has %d bytes, and a file can have %d", size, maxSource)
}

// checkName accepts names of files below the runbook's folder, in one spelling.
func checkName(name string) error {
	switch {
	case !strings.HasSuffix(name, ".star"):
		return errors.New("the name of a file of a runbook ends in .star")
	case path.IsAbs(name):
		return errors.New("a runbook loads files from its own folder only, so their paths are not absolute")
	case name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../"):
		return errors.New("a runbook loads files from its own folder and below only")
	case path.Clean(name) != name || len(name) > 255 || strings.ContainsFunc(name, oddInName):
		return errors.New("this is not a plain relative path")
	}
	return nil
}

func oddInName(r rune) bool { return r == '\\' || r == ':' || !unicode.IsPrint(r) }

// reason is err without the name of the file, which the caller adds as the
// operator knows it.
func reason(err error) error {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case errors.As(err, &p) && strings.Contains(p.Err.Error(), "escapes"):
		return errors.New("it is a link that leads out of the runbook's folder")
	case errors.As(err, &p):
		return p.Err
	}
	return err
}
