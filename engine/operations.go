package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Operations is the table of what a runbook may ask of a node: the name, such
// as "route.add", and the operation's zero value.
type Operations map[string]Operation

// Names returns the names in order.
func (o Operations) Names() []string { return slices.Sorted(maps.Keys(o)) }

// Decode makes the operation called name from its arguments in JSON. It trusts
// nothing: an unknown name or argument, and a value that Validate refuses, are errors.
func (o Operations) Decode(name string, args json.RawMessage) (Operation, error) {
	proto, ok := o[name]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q", name)
	}
	v := reflect.New(reflect.TypeOf(proto))
	dec := json.NewDecoder(bytes.NewReader(args))
	dec.DisallowUnknownFields()
	dec.UseNumber() // what may be anything keeps its digits
	if err := dec.Decode(v.Interface()); err != nil {
		return nil, err
	}
	op := v.Elem().Interface()
	return op, Validate(op)
}

// Validate asks op whether its arguments make sense together.
func Validate(op Operation) error {
	if v, ok := op.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// Arg is one argument of an operation.
type Arg struct {
	Name     string
	Type     reflect.Type
	Optional bool
}

// Args returns the arguments of op in order.
func Args(op Operation) []Arg {
	t := reflect.TypeOf(op)
	var out []Arg
	for i := range t.NumField() {
		name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, Arg{name, t.Field(i).Type, strings.Contains(opts, "omit")})
	}
	return out
}
