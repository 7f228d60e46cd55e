package inventory

import "runbook/engine"

// FromNames returns an inventory of nodes that are known by their names alone,
// such as those of a lab. path names it in errors.
func FromNames(path string, names []string) *Inventory {
	inv := &Inventory{path: path, index: map[string]int{}, groups: map[string][]int{}}
	for i, n := range names {
		inv.index[n] = i
		inv.nodes = append(inv.nodes, Node{Name: n, SSH: SSH{Host: n}, Become: BecomeNone})
	}
	return inv
}

// Named returns the nodes with these names, in their order: those of a saved
// plan, which means them whatever its selection would mean today.
func (inv *Inventory) Named(names []string) ([]Node, error) {
	var out []Node
	for _, name := range names {
		n, ok := inv.Node(name)
		if !ok {
			return nil, engine.Invalid.Errorf("inventory %s has no node %s any more", inv.path, name)
		}
		out = append(out, n)
	}
	return out, nil
}
