package rehearse

import (
	"encoding/json"
	"os"

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

// LoadSnapshot reads a snapshot.
func LoadSnapshot(path string) (*NodeSnapshot, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSnapshot) {
		return nil, engine.Invalid.Errorf("%s is not a file, or too large for a snapshot", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, engine.Invalid.Errorf("snapshot: %w", err)
	}
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
