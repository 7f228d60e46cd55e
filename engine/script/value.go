package script

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"runbook/internal/spell"
)

// maxDepth is how deep values can be nested that cross between Go and Starlark.
const maxDepth = 64

// record is an immutable value with named fields: the result of an operation,
// the parameters, a node, and what struct(…) makes. A field is r.name, or
// r["name"] where its name is no identifier.
type record struct {
	kind   string
	names  []string // in order
	values []starlark.Value
	frozen bool
	raw    json.RawMessage // not yet read into names and values: see [lazyRecord]
}

var (
	_ starlark.HasAttrs        = (*record)(nil)
	_ starlark.IterableMapping = (*record)(nil)
	_ starlark.Comparable      = (*record)(nil)
)

func newRecord(kind string, fields starlark.StringDict) *record {
	r := &record{kind: kind, names: fields.Keys()}
	for _, n := range r.names {
		r.values = append(r.values, fields[n])
	}
	return r
}

// lazyRecord is fromJSON of an object with asRecord, which is read when a script looks
// into it: most look at few of the results of what they ask. raw is JSON.
func lazyRecord(kind string, raw json.RawMessage) (starlark.Value, error) {
	if len(raw) == 0 || raw[0] != '{' || !plain(raw) {
		return fromJSON(raw, asRecord(kind))
	}
	return &record{kind: kind, frozen: true, raw: raw}, nil
}

// plain reports whether raw, which is JSON, is sure to be read: it is not nested too
// deep, and no number is written so that it may be too large.
func plain(raw json.RawMessage) bool {
	depth, digits, quoted := 0, 0, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		}
		switch {
		case quoted || c < '0' || c > '9':
			if !quoted && digits > 0 && (c == 'e' || c == 'E') {
				return false
			}
			digits = 0
		default:
			digits++
		}
		if depth == maxDepth || digits == 100 {
			return false
		}
	}
	return true
}

// open is r with its fields read.
func (r *record) open() *record {
	if r.raw != nil {
		v, err := fromJSON(r.raw, asRecord(r.kind))
		if err != nil {
			panic(err) // it is plain
		}
		*r = *v.(*record)
	}
	return r
}

func (r *record) Type() string         { return r.kind }
func (r *record) Truth() starlark.Bool { return true }
func (r *record) Len() int             { return len(r.open().names) }
func (r *record) AttrNames() []string  { return r.open().names }

func (r *record) String() string { return show(r) }

func (r *record) Hash() (uint32, error) { return 0, fmt.Errorf("unhashable type: %s", r.kind) }

// Freeze is guarded, since a struct can hold a list that holds the struct.
func (r *record) Freeze() {
	if r.frozen {
		return
	}
	r.frozen = true
	for _, v := range r.values {
		v.Freeze()
	}
}

// field returns the value of a field, or nil.
func (r *record) field(name string) starlark.Value {
	if i, ok := slices.BinarySearch(r.open().names, name); ok {
		return r.values[i]
	}
	return nil
}

// Attr says of an unknown name what was probably meant, or what there is.
func (r *record) Attr(name string) (starlark.Value, error) {
	if v := r.field(name); v != nil {
		return v, nil
	}
	if near := spell.Near(name, r.names, 1); len(near) > 0 {
		return nil, fmt.Errorf("%s has no .%s field or method (did you mean .%s?)", r.kind, name, near[0])
	}
	return nil, fmt.Errorf("%s has no .%s field or method%s", r.kind, name, itHas(r.names))
}

// Get implements starlark.Mapping.
func (r *record) Get(key starlark.Value) (starlark.Value, bool, error) {
	name, _ := starlark.AsString(key)
	v := r.field(name)
	return v, v != nil, nil
}

// Items implements starlark.IterableMapping.
func (r *record) Items() []starlark.Tuple {
	out := make([]starlark.Tuple, len(r.open().names))
	for i, n := range r.names {
		out[i] = starlark.Tuple{starlark.String(n), r.values[i]}
	}
	return out
}

// Iterate is over the names, as of a dict.
func (r *record) Iterate() starlark.Iterator {
	names := make(starlark.Tuple, len(r.open().names))
	for i, n := range r.names {
		names[i] = starlark.String(n)
	}
	return names.Iterate()
}

// CompareSameType implements starlark.Comparable.
func (r *record) CompareSameType(op syntax.Token, y starlark.Value, depth int) (bool, error) {
	if op != syntax.EQL && op != syntax.NEQ {
		return false, fmt.Errorf("%s %s %s is not supported", r.kind, op, r.kind)
	}
	other := y.(*record).open()
	equal := slices.Equal(r.open().names, other.names)
	for i := range r.values {
		if !equal {
			break
		}
		var err error
		if equal, err = starlark.EqualDepth(r.values[i], other.values[i], depth-1); err != nil {
			return false, err
		}
	}
	return equal == (op == syntax.EQL), nil
}

// objects makes a Starlark value of a JSON object.
type objects func(fields starlark.StringDict) starlark.Value

func asRecord(kind string) objects {
	return func(fields starlark.StringDict) starlark.Value { return newRecord(kind, fields) }
}

func asDict(fields starlark.StringDict) starlark.Value {
	d := starlark.NewDict(len(fields))
	for _, k := range fields.Keys() {
		d.SetKey(starlark.String(k), fields[k])
	}
	return d
}

// fromJSON makes a frozen value of JSON. Integers are exact.
func fromJSON(raw json.RawMessage, object objects) (starlark.Value, error) {
	if len(raw) == 0 {
		return starlark.None, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var x any
	if err := dec.Decode(&x); err != nil {
		return nil, err
	}
	v, err := fromGo(x, object, maxDepth)
	if err != nil {
		return nil, err
	}
	v.Freeze()
	return v, nil
}

func fromGo(x any, object objects, depth int) (starlark.Value, error) {
	if depth == 0 {
		return nil, fmt.Errorf("a value is nested more than %d deep", maxDepth)
	}
	switch x := x.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(x), nil
	case string:
		return starlark.String(x), nil
	case json.Number:
		return fromNumber(x)
	case []any:
		elems := make([]starlark.Value, len(x))
		for i := range x {
			v, err := fromGo(x[i], object, depth-1)
			if err != nil {
				return nil, err
			}
			elems[i] = v
		}
		return starlark.NewList(elems), nil
	case map[string]any:
		fields := make(starlark.StringDict, len(x))
		for k := range x {
			v, err := fromGo(x[k], object, depth-1)
			if err != nil {
				return nil, err
			}
			fields[k] = v
		}
		return object(fields), nil
	}
	return nil, fmt.Errorf("%T is not JSON", x)
}

func fromNumber(n json.Number) (starlark.Value, error) {
	if i, err := n.Int64(); err == nil {
		return starlark.MakeInt64(i), nil
	}
	if !strings.ContainsAny(n.String(), ".eE") && len(n) < 100 {
		if i, ok := new(big.Int).SetString(n.String(), 10); ok {
			return starlark.MakeBigInt(i), nil
		}
	}
	f, err := n.Float64()
	if err != nil {
		return nil, errors.New("a number is out of range")
	}
	return starlark.Float(f), nil
}

// toGo is the reverse of fromGo, for arguments that can be any JSON.
func toGo(v starlark.Value, depth int) (any, error) {
	if depth == 0 {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(v), nil
	case starlark.String:
		return string(v), nil
	case starlark.Int:
		if i, ok := v.Int64(); ok {
			return i, nil
		}
		return nil, errors.New("a number is out of range")
	case starlark.Float:
		return float64(v), nil
	case starlark.IterableMapping:
		out := map[string]any{}
		for _, item := range v.Items() {
			k, ok := starlark.AsString(item[0])
			if !ok {
				return nil, fmt.Errorf("a key is %s, not a string", describe(item[0]))
			}
			x, err := toGo(item[1], depth-1)
			if err != nil {
				return nil, err
			}
			out[k] = x
		}
		return out, nil
	case *starlark.List, starlark.Tuple, *starlark.Set:
		out := []any{}
		for e := range starlark.Elements(v.(starlark.Iterable)) {
			x, err := toGo(e, depth-1)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s cannot be an argument", describe(v))
}

// describe says in an error what v is: "int 5", "list".
func describe(v starlark.Value) string {
	switch v.(type) {
	case starlark.NoneType:
		return "None"
	case starlark.Bool, starlark.Int, starlark.Float:
		return v.Type() + " " + show(v)
	case starlark.String:
		return show(v)
	}
	return v.Type()
}

const (
	showDepth = 8
	showBytes = 2 << 10
)

// show prints v for people. Unlike Starlark's str it always ends soon, whatever
// the script has put into v.
func show(v starlark.Value) string {
	var b strings.Builder
	showTo(&b, v, showDepth)
	return b.String()
}

func showTo(b *strings.Builder, v starlark.Value, depth int) {
	if depth == 0 || b.Len() > showBytes {
		b.WriteString("…")
		return
	}
	switch v := v.(type) {
	case starlark.String:
		s := string(v)
		if len(s) > showBytes {
			s = s[:showBytes] + "…"
		}
		b.WriteString(syntax.Quote(s, false))
	case starlark.Int:
		if _, ok := v.Int64(); !ok {
			b.WriteString("(a large number)") // its digits could take seconds to find
			return
		}
		b.WriteString(v.String())
	case starlark.NoneType, starlark.Bool, starlark.Float:
		b.WriteString(v.String())
	case *starlark.List:
		showElements(b, "[", v, "]", depth)
	case starlark.Tuple:
		showElements(b, "(", v, ")", depth)
	case *record:
		if name := serverName(v); name != "" {
			b.WriteString("<" + name + ">")
			return
		}
		b.WriteString(v.kind + "(")
		for i, n := range v.open().names {
			separate(b, i)
			b.WriteString(n + " = ")
			showTo(b, v.values[i], depth-1)
		}
		b.WriteString(")")
	case *starlark.Dict:
		b.WriteString("{")
		i := 0
		for k, e := range v.Entries() {
			if i++; b.Len() > showBytes {
				break
			}
			separate(b, i-1)
			showTo(b, k, depth-1)
			b.WriteString(": ")
			showTo(b, e, depth-1)
		}
		b.WriteString("}")
	default:
		b.WriteString("<" + v.Type() + ">")
	}
}

func showElements(b *strings.Builder, open string, v starlark.Iterable, end string, depth int) {
	b.WriteString(open)
	i := 0
	for e := range starlark.Elements(v) {
		if i++; b.Len() > showBytes {
			break
		}
		separate(b, i-1)
		showTo(b, e, depth-1)
	}
	b.WriteString(end)
}

func separate(b *strings.Builder, i int) {
	if i > 0 {
		b.WriteString(", ")
	}
}

// fields makes a record of the keyword arguments of struct(…).
func fields(kind string, kwargs []starlark.Tuple) *record {
	sort.Slice(kwargs, func(i, j int) bool { return kwargs[i][0].(starlark.String) < kwargs[j][0].(starlark.String) })
	r := &record{kind: kind}
	for _, kv := range kwargs {
		r.names = append(r.names, string(kv[0].(starlark.String)))
		r.values = append(r.values, kv[1])
	}
	return r
}
