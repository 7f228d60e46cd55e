package inventory

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"runbook/internal/yamlfile"
)

// This file reads YAML as Ansible does: the inventories, and the files of
// variables beside them. Ansible's YAML is an old one, 1.1: yes is a boolean there, 010
// is eight and 1:30 is ninety. It has anchors, and tags for what is encrypted.

// maxValues bounds what anchors can make of a small file.
const maxValues = 1 << 20

// yaml11 reads one file.
type yaml11 struct {
	yamlfile.Reader
	anchors map[string]ast.Node
	values  int
}

// pair is a key of a mapping and what it holds.
type pair struct {
	key, pos string
	value    ast.Node
}

// yaml reads an inventory.
func (a *ansible) yaml(in input, body ast.Node) error {
	y := &yaml11{Reader: yamlfile.Reader{File: in.file}, anchors: map[string]ast.Node{}}
	groups, err := y.pairs(body, "an Ansible inventory")
	if err != nil {
		return err
	}
	for _, p := range groups {
		if p.key == "plugin" {
			return invalid(p.pos, `have Ansible ask it: command: [ansible-inventory, -i, FILE, --list]`, "this is the configuration of an Ansible plugin, not an inventory")
		}
		if err := a.yamlGroup(y, in, p, 0); err != nil {
			return err
		}
	}
	return nil
}

// yamlGroup reads a group with all below it.
func (a *ansible) yamlGroup(y *yaml11, in input, p pair, depth int) error {
	what := "group " + p.key
	if depth > maxDepth {
		return invalid(p.pos, "", "%s: groups are nested more than %d deep", what, maxDepth)
	}
	level, g, err := a.level(named{p.key, p.pos})
	if err != nil {
		return err
	}
	parts, err := y.pairs(p.value, what)
	if err != nil {
		return err
	}
	for _, part := range parts {
		switch part.key {
		case "hosts":
			err = a.yamlHosts(y, in, g, part, what)
		case "vars":
			err = y.vars(part.value, "vars of "+what, level.set)
		case "children":
			err = a.yamlChildren(y, in, g, part, what, depth)
		default:
			hint := strings.TrimSpace(didYouMean(part.key, []string{"hosts", "vars", "children"}) + " a group of an Ansible inventory has hosts, vars and children")
			err = invalid(part.pos, hint, "%s has no key %q", what, part.key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *ansible) yamlHosts(y *yaml11, in input, g *group, part pair, what string) error {
	if s, ok := part.value.(*ast.SequenceNode); ok {
		return invalid(y.Place(s), "write each host as a key: {web-1: , web-2: }; a script's JSON, which has lists, also has _meta with hostvars", "hosts of %s: want a mapping, got a list", what)
	}
	hosts, err := y.namesOf(part.value, "hosts of "+what)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		vars := map[string]placed{}
		err := y.vars(h.value, "host "+h.key, func(name string, v placed) { vars[name] = v })
		if err != nil {
			return err
		}
		if err := a.hosts(g, named{h.key, h.pos}, in.path, vars); err != nil {
			return err
		}
	}
	return nil
}

func (a *ansible) yamlChildren(y *yaml11, in input, g *group, part pair, what string, depth int) error {
	children, err := y.namesOf(part.value, "children of "+what)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := a.yamlGroup(y, in, c, depth+1); err != nil {
			return err
		}
		if err := a.child(g, named{c.key, c.pos}); err != nil {
			return err
		}
	}
	return nil
}

// namesOf returns the pairs of n, a mapping of names; a single name may stand for one.
func (y *yaml11) namesOf(n ast.Node, what string) ([]pair, error) {
	if s, ok := n.(*ast.StringNode); ok {
		return []pair{{s.Value, y.Pos(s.Token), nil}}, nil
	}
	out, err := y.pairs(n, what)
	return out, err
}

// vars reads variables.
func (y *yaml11) vars(n ast.Node, what string, set func(string, placed)) error {
	list, err := y.pairs(n, what)
	if err != nil {
		return err
	}
	for _, p := range list {
		v, err := y.value(p.value, what, 0)
		if err != nil {
			return err
		}
		set(p.key, placed{v, p.pos})
	}
	return nil
}

// bare takes anchors off n, and follows aliases.
func (y *yaml11) bare(n ast.Node, what string) (ast.Node, error) {
	for depth := 0; ; depth++ {
		switch v := n.(type) {
		case *ast.AnchorNode:
			y.anchors[v.Name.GetToken().Value] = v.Value
			n = v.Value
		case *ast.AliasNode:
			to, ok := y.anchors[v.Value.GetToken().Value]
			if !ok {
				return nil, invalid(y.Place(n), "", "%s: there is no anchor &%s before it", what, v.Value.GetToken().Value)
			}
			n = to
		default:
			return n, nil
		}
		if depth > maxDepth {
			return nil, invalid(y.Place(n), "", "%s: anchors lead to each other", what)
		}
	}
}

// pairs returns what the mapping n holds, in order, with what it merges. A null holds nothing.
func (y *yaml11) pairs(n ast.Node, what string) ([]pair, error) {
	n, err := y.bare(n, what)
	if err != nil {
		return nil, err
	}
	switch n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case ast.MapNode:
	default:
		return nil, y.Mistyped(n, what, "a mapping")
	}
	var own, merged []pair
	first := map[string]string{}
	for i := n.(ast.MapNode).MapRange(); i.Next(); {
		if y.values++; y.values > maxValues {
			return nil, invalid(y.Place(n), "", "%s: the file has more than %d values, its anchors counted wherever they are used", what, maxValues)
		}
		if _, ok := i.Key().(*ast.MergeKeyNode); ok {
			more, err := y.merge(i.Value(), what)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		var key ast.Node = i.Key()
		if key, err = y.bare(key, what); err != nil {
			return nil, err
		}
		t := key.GetToken()
		switch key.(type) {
		case ast.MapNode, *ast.SequenceNode, *ast.MappingKeyNode, *ast.TagNode, *ast.LiteralNode:
			return nil, y.Mistyped(key, "a key of "+what, "text")
		}
		p := pair{t.Value, y.Pos(t), i.Value()}
		if at, twice := first[p.key]; twice {
			return nil, invalid(p.pos, "", "%s has %s twice, first at %s", what, p.key, at)
		}
		first[p.key] = p.pos
		own = append(own, p)
	}
	for _, p := range merged { // what a mapping says itself counts more
		if _, had := first[p.key]; !had {
			first[p.key] = p.pos
			own = append(own, p)
		}
	}
	return own, nil
}

// merge returns the pairs of what stands after <<: a mapping or a list of some.
func (y *yaml11) merge(n ast.Node, what string) ([]pair, error) {
	n, err := y.bare(n, what)
	if err != nil {
		return nil, err
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return y.pairs(n, what)
	}
	var out []pair
	for _, item := range list.Values {
		more, err := y.pairs(item, what)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// value returns what n holds.
func (y *yaml11) value(n ast.Node, what string, depth int) (any, error) {
	n, err := y.bare(n, what)
	if err != nil {
		return nil, err
	}
	if y.values++; y.values > maxValues || depth > maxDepth {
		return nil, invalid(y.Place(n), "", "%s: the file has more than %d values, its anchors counted wherever they are used, or they are nested more than %d deep", what, maxValues, maxDepth)
	}
	switch n := n.(type) {
	case nil:
		return nil, nil
	case *ast.TagNode:
		return y.tagged(n, what, depth)
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.SequenceNode:
		out := make([]any, 0, len(n.Values))
		for _, item := range n.Values {
			v, err := y.value(item, what, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case *ast.MappingNode, *ast.MappingValueNode:
		list, err := y.pairs(n, what)
		if err != nil {
			return nil, err
		}
		out := make(map[string]any, len(list))
		for _, p := range list {
			if out[p.key], err = y.value(p.value, what, depth+1); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *ast.StringNode:
		if n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType {
			return n.Value, nil
		}
		return plain(n.Value), nil
	case *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return plain(n.GetToken().Value), nil
	}
	return nil, y.Mistyped(n, what, "text, a number, a boolean, a list or a mapping")
}

// tagged returns the value of a node with a tag.
func (y *yaml11) tagged(n *ast.TagNode, what string, depth int) (any, error) {
	switch tag := n.Start.Value; tag {
	case "!vault", "!vault-encrypted":
		return unread("vault-encrypted"), nil
	case "!unsafe", "!!str":
		v, err := y.bare(n.Value, what)
		if err != nil {
			return nil, err
		}
		text := ""
		switch v := v.(type) {
		case *ast.StringNode:
			text = v.Value
		case *ast.LiteralNode:
			text = v.Value.Value
		case ast.ScalarNode:
			text = v.GetToken().Value
		default:
			return unread("with the tag " + tag), nil
		}
		if tag == "!unsafe" {
			return verbatim(text), nil
		}
		return text, nil
	case "!!map", "!!seq":
		return y.value(n.Value, what, depth+1)
	default:
		return unread("with the tag " + tag), nil
	}
}

// What unquoted text means in YAML 1.1, as Ansible's reader has it.
var (
	yaml11Null  = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	yaml11True  = regexp.MustCompile(`^(?:yes|Yes|YES|true|True|TRUE|on|On|ON)$`)
	yaml11False = regexp.MustCompile(`^(?:no|No|NO|false|False|FALSE|off|Off|OFF)$`)
	yaml11Int   = regexp.MustCompile(`^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$`)
	yaml11Sixty = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+$`)
	yaml11Float = regexp.MustCompile(`^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?$`)
	yaml11Other = regexp.MustCompile(`^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)$`)
)

// plain returns what unquoted text means.
func plain(text string) any {
	digits := strings.ReplaceAll(text, "_", "")
	switch {
	case yaml11Null.MatchString(text):
		return nil
	case yaml11True.MatchString(text):
		return true
	case yaml11False.MatchString(text):
		return false
	case yaml11Int.MatchString(text):
		if n, err := strconv.ParseInt(digits, 0, 64); err == nil { // base 0 knows 0b, 0x, and 010 for eight
			return n
		}
		return unread("a number that is too large")
	case yaml11Sixty.MatchString(text):
		return sixty(digits)
	case yaml11Float.MatchString(text):
		if f, err := strconv.ParseFloat(digits, 64); err == nil && !math.IsInf(f, 0) {
			return f
		}
		return unread("a number that is too large")
	case yaml11Other.MatchString(text):
		return unread("no number that JSON has")
	}
	return text
}

// sixty is a number in base sixty: 1:30 is 90.
func sixty(text string) any {
	sign := int64(1)
	if text[0] == '-' {
		sign = -1
	}
	var n int64
	for digit := range strings.SplitSeq(strings.TrimLeft(text, "-+"), ":") {
		d, err := strconv.ParseInt(digit, 10, 64)
		if err != nil || n > math.MaxInt64/100 {
			return unread("a number that is too large")
		}
		n = n*60 + d
	}
	return sign * n
}
