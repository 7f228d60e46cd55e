package resource

import "fmt"

// KindFacts is the kind of [Facts].
const KindFacts Kind = "facts"

// FactsKey is the key of a node's facts: there is one.
const FactsKey = Key(KindFacts)

// Facts is what a node is. No operation changes it.
type Facts struct {
	Hostname string `json:"hostname"`
	OS       string `json:"os"`         // ID of os-release, such as "debian"
	Version  string `json:"os_version"` // VERSION_ID of os-release, such as "12"
	Kernel   string `json:"kernel"`     // uname -r
	Arch     string `json:"arch"`       // GOARCH's word: amd64, arm64
	CPUs     int    `json:"cpus"`
	Memory   int64  `json:"memory"`  // bytes
	BootID   string `json:"boot_id"` // a new one at every boot
	// Machine tells this installation from all others, whatever it is called and
	// wherever it is reached: 32 hexadecimal digits, or "" where that is not known.
	Machine string `json:"machine"`
}

// Key implements [Resource].
func (f Facts) Key() Key { return FactsKey }

// Match implements [Resource].
func (f Facts) Match(Selector) bool { return true }

// Volatile implements [Resource].
func (f Facts) Volatile() bool { return false }

func (f Facts) String() string {
	return fmt.Sprintf("%s %s %s kernel %s %s, %d cpus, %d MiB", f.Hostname, f.OS, f.Version, f.Kernel, f.Arch, f.CPUs, f.Memory>>20)
}
