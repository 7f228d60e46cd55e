package script

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"runbook/engine"
)

// This file makes operations of calls, in the evaluator, where errors have
// positions. The arguments are the fields of the operation's struct.

// binding is an operation as scripts call it.
type binding struct {
	name  string
	typ   reflect.Type
	args  []engine.Arg
	names []string

	onFleet bool // it looks at all nodes
}

func newBinding(name string, op engine.Operation) *binding {
	b := &binding{name: name, typ: reflect.TypeOf(op), args: engine.Args(op)}
	for _, a := range b.args {
		b.names = append(b.names, a.Name)
	}
	_, b.onFleet = op.(engine.OnFleet)
	return b
}

// cutLast splits "route.add" at its dot.
func cutLast(name string) (domain, method string, dotted bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// call makes the operation and has the controller do it.
func (b *binding) call(s *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	on, server := asked(fn)
	args, kwargs = b.fleetless(args, kwargs)
	op, err := b.bind(server, args, kwargs)
	if err == nil {
		err = engine.Validate(op)
	}
	var raw json.RawMessage
	if err == nil {
		raw, err = json.Marshal(op)
	}
	if err != nil {
		return nil, invalid("", "%s: %s", b.name, clean(err.Error()))
	}
	if len(raw) > maxArgs {
		e := invalid("", "%s: the arguments have %d bytes, and an operation can take %d", b.name, len(raw), maxArgs)
		e.Code = engine.LimitHit
		return nil, e
	}
	answer, err := threadOf(s).ask(frame{Type: tCall, Name: b.name, Value: raw, Pos: here(s), On: on})
	if err != nil {
		return nil, err
	}
	v, err := lazyRecord("struct", answer.Value)
	if err != nil {
		return nil, invalid("", "%s: its result: %v", b.name, err)
	}
	return v, nil
}

// fleetless is the arguments without the fleet, which those operations may be given that look at
// all of its nodes: the controller knows which these are, and no script can name others.
func (b *binding) fleetless(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Tuple, []starlark.Tuple) {
	if !b.onFleet {
		return args, kwargs
	}
	isFleet := func(v starlark.Value) bool {
		r, is := v.(*record)
		return is && r.kind == fleetKind
	}
	if len(args) > 0 && isFleet(args[0]) {
		args = args[1:]
	}
	return args, slices.DeleteFunc(slices.Clone(kwargs), func(kv starlark.Tuple) bool { return kv[0] == starlark.String(fleetKind) && isFleet(kv[1]) })
}

// bind makes an operation of the arguments of a call; server is the one that it is of, or "".
func (b *binding) bind(server string, args starlark.Tuple, kwargs []starlark.Tuple) (engine.Operation, error) {
	given, first := make([]starlark.Value, len(b.args)), 0
	if server != "" {
		given[0], first = starlark.String(server), 1
	}
	names := b.names[first:]
	if len(args) > len(names) {
		return nil, fmt.Errorf("takes %d arguments (%s), got %d", len(names), strings.Join(names, ", "), len(args))
	}
	copy(given[first:], args)
	for _, kv := range kwargs {
		name := string(kv[0].(starlark.String))
		i := slices.Index(b.names, name)
		switch {
		case i < first:
			return nil, fmt.Errorf("unexpected argument %s%s", name, cmp.Or(didYouMean(name, names), itTakes(names)))
		case given[i] != nil:
			return nil, fmt.Errorf("argument %s is given twice", name)
		}
		given[i] = kv[1]
	}
	op := reflect.New(b.typ).Elem()
	var missing []string
	for i, a := range b.args {
		switch v := given[i]; {
		case (v == nil || v == starlark.None) && a.Optional:
		case v == nil:
			missing = append(missing, a.Name)
		default:
			if err := assign(op.Field(i), v, a.Name, maxDepth); err != nil {
				return nil, err
			}
		}
	}
	switch len(missing) {
	case 0:
		return op.Interface(), nil
	case 1:
		return nil, fmt.Errorf("missing argument %s", missing[0])
	default:
		return nil, fmt.Errorf("missing arguments %s", strings.Join(missing, ", "))
	}
}

var (
	prefixType   = reflect.TypeFor[netip.Prefix]()
	addrType     = reflect.TypeFor[netip.Addr]()
	durationType = reflect.TypeFor[engine.Duration]()
)

// assign sets the field dst, which scripts know as path, to v.
func assign(dst reflect.Value, v starlark.Value, path string, depth int) error {
	if depth == 0 {
		return fmt.Errorf("%s: nested too deeply", path)
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		return assign(dst.Elem(), v, path, depth)
	}
	if dst.CanAddr() {
		if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
			return assignText(dst, u, v, path)
		}
	}
	mismatch := func() error { return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v)) }
	switch dst.Kind() {
	case reflect.String:
		s, ok := starlark.AsString(v)
		if !ok {
			return mismatch()
		}
		dst.SetString(s)
	case reflect.Bool:
		b, ok := v.(starlark.Bool)
		if !ok {
			return mismatch()
		}
		dst.SetBool(bool(b))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return assignInt(dst, v, path)
	case reflect.Float64, reflect.Float32:
		f, ok := starlark.AsFloat(v)
		if !ok {
			return mismatch()
		}
		dst.SetFloat(f)
	case reflect.Slice:
		return assignSlice(dst, v, path, depth)
	case reflect.Map:
		return assignMap(dst, v, path, depth)
	case reflect.Struct:
		return assignStruct(dst, v, path, depth)
	case reflect.Interface:
		x, err := toGo(v, depth)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		dst.Set(reflect.ValueOf(&x).Elem())
	default:
		return fmt.Errorf("%s: arguments of type %s are not supported", path, dst.Type())
	}
	return nil
}

// assignText sets a field whose type reads texts. A number that also has names
// may be given as a number.
func assignText(dst reflect.Value, u encoding.TextUnmarshaler, v starlark.Value, path string) error {
	text, ok := starlark.AsString(v)
	if i, isInt := v.(starlark.Int); isInt && (dst.CanInt() || dst.CanUint()) && dst.Type() != durationType {
		if n, exact := i.Int64(); exact {
			text, ok = strconv.FormatInt(n, 10), true
		}
	}
	if !ok {
		return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v))
	}
	var err error
	switch dst.Type() { // those that can be explained better than by their own errors
	case prefixType:
		_, err = parsePrefix(text)
	case addrType:
		_, err = parseIP(text)
	case durationType:
		_, err = parseDuration(text)
	}
	if err == nil {
		err = u.UnmarshalText([]byte(text))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func assignInt(dst reflect.Value, v starlark.Value, path string) error {
	i, ok := v.(starlark.Int)
	if !ok {
		return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v))
	}
	if dst.CanInt() {
		if n, exact := i.Int64(); exact && !dst.OverflowInt(n) {
			dst.SetInt(n)
			return nil
		}
		bits := dst.Type().Bits()
		return fmt.Errorf("%s: %s is out of range: want a number from %d to %d", path, show(i), math.MinInt64>>(64-bits), math.MaxInt64>>(64-bits))
	}
	if n, exact := i.Uint64(); exact && !dst.OverflowUint(n) {
		dst.SetUint(n)
		return nil
	}
	return fmt.Errorf("%s: %s is out of range: want a number from 0 to %d", path, show(i), uint64(math.MaxUint64)>>(64-dst.Type().Bits()))
}

func assignSlice(dst reflect.Value, v starlark.Value, path string, depth int) error {
	var seq starlark.Iterable
	switch v := v.(type) {
	case *starlark.List, starlark.Tuple, *starlark.Set:
		seq = v.(starlark.Iterable)
	default:
		return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v))
	}
	out := reflect.MakeSlice(dst.Type(), 0, starlark.Len(v))
	for e := range starlark.Elements(seq) {
		elem := reflect.New(dst.Type().Elem()).Elem()
		if err := assign(elem, e, fmt.Sprintf("%s[%d]", path, out.Len()), depth-1); err != nil {
			return err
		}
		out = reflect.Append(out, elem)
	}
	dst.Set(out)
	return nil
}

func assignMap(dst reflect.Value, v starlark.Value, path string, depth int) error {
	m, ok := v.(starlark.IterableMapping)
	if !ok || dst.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v))
	}
	out := reflect.MakeMap(dst.Type())
	for _, item := range m.Items() {
		k, ok := starlark.AsString(item[0])
		if !ok {
			return fmt.Errorf("%s: a key must be a string, got %s", path, describe(item[0]))
		}
		elem := reflect.New(dst.Type().Elem()).Elem()
		if err := assign(elem, item[1], fmt.Sprintf("%s[%q]", path, k), depth-1); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(k).Convert(dst.Type().Key()), elem)
	}
	dst.Set(out)
	return nil
}

// assignStruct sets a struct within an argument from a dict or a struct whose
// fields are those of the json tags.
func assignStruct(dst reflect.Value, v starlark.Value, path string, depth int) error {
	m, ok := v.(starlark.IterableMapping)
	if !ok {
		return fmt.Errorf("%s: want %s, got %s", path, Want(dst.Type()), describe(v))
	}
	b := newBinding(path, dst.Interface())
	given := map[string]bool{}
	for _, item := range m.Items() {
		k, ok := starlark.AsString(item[0])
		i := slices.Index(b.names, k)
		if !ok || i < 0 {
			return fmt.Errorf("%s: unexpected %s%s", path, describe(item[0]), didYouMean(k, b.names))
		}
		if item[1] == starlark.None && b.args[i].Optional {
			continue
		}
		given[k] = true
		if err := assign(dst.Field(i), item[1], path+"."+k, depth-1); err != nil {
			return err
		}
	}
	for _, a := range b.args {
		if !a.Optional && !given[a.Name] {
			return fmt.Errorf("%s: missing %s", path, a.Name)
		}
	}
	return nil
}

// Want says what an argument of type t takes.
func Want(t reflect.Type) string {
	switch t {
	case prefixType:
		return wantPrefix
	case addrType:
		return wantIP
	case durationType:
		return wantDuration
	}
	text := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch t.Kind() {
	case reflect.Pointer:
		return Want(t.Elem())
	case reflect.Bool:
		return "True or False"
	case reflect.Interface:
		return "a value"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list, each " + Want(t.Elem())
	case reflect.Map, reflect.Struct:
		if text {
			return "a string"
		}
		return "a dict"
	}
	if text {
		return "a string or a whole number"
	}
	return "a whole number"
}
