package rehearse

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"runbook/engine"
	"runbook/engine/resource"
)

// NodeSnapshot is what a node held when it was recorded: enough to plan
// without it.
type NodeSnapshot struct {
	Version int             `json:"v"` // SnapshotVersion
	Node    engine.NodeInfo `json:"node"`
	State   resource.State  `json:"state"`
}

// SnapshotVersion is the version of the form in which snapshots are saved.
const SnapshotVersion = 1

// maxSnapshot is how large a snapshot may be: that of a node with 100,000 routes has 20 MB.
const maxSnapshot = 256 << 20

// LoadSnapshot reads the snapshot in the file at path.
func LoadSnapshot(path string) (*NodeSnapshot, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe may have no writer
	if err != nil {
		return nil, engine.Invalid.Errorf("snapshot: %w", err)
	}
	return readSnapshot(path, f)
}

// snapshotIn reads a snapshot that a test names. Nothing outside of the test's folder is read.
func snapshotIn(dir, name string) (*NodeSnapshot, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, engine.Invalid.Errorf("snapshot: %w", err)
	}
	defer root.Close() //nolint:errcheck // it was only read
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, engine.Invalid.Errorf("snapshot: %w", err)
	}
	return readSnapshot(filepath.Join(dir, name), f)
}

// readSnapshot reads f, which is named path, and closes it.
func readSnapshot(path string, f *os.File) (*NodeSnapshot, error) {
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSnapshot) {
		return nil, engine.Invalid.Errorf("%s is not a file, or too large for a snapshot: it can have %d MB", path, maxSnapshot>>20)
	}
	var b []byte
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(f, maxSnapshot))
	}
	if err != nil {
		return nil, engine.Invalid.Errorf("snapshot: %w", err)
	}
	return ParseSnapshot(path, b)
}

// ParseSnapshot reads b, which is what is in the file at path. It trusts none of it.
func ParseSnapshot(path string, b []byte) (*NodeSnapshot, error) {
	var s NodeSnapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, engine.Invalid.Errorf("%s is not a snapshot: %w", path, err)
	}
	switch {
	case s.Version != SnapshotVersion:
		return nil, engine.Invalid.Errorf("%s is a snapshot of version %d: this runbook reads version %d", path, s.Version, SnapshotVersion)
	case s.Node.Name == "" || len(s.State) == 0:
		return nil, engine.Invalid.Errorf("%s is not a snapshot: it names no node, or holds nothing", path)
	}
	return &s, nil
}
