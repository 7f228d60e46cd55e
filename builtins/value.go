package builtins

import (
	"context"
	"encoding"
	"encoding/hex"
	"reflect"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

// Results as scripts see them: every field is there, also an empty one, or
// reading r.src would be an error on most routes. What is not set is None.

// views returns the fields of every resource of type R that s selects.
func views[R resource.Resource](ctx context.Context, n engine.Reader, s resource.Selector) (any, error) {
	found, err := list[R](ctx, n, s)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(found))
	for i, r := range found {
		out[i] = fields(r)
	}
	return out, nil
}

// fields returns the fields of the struct v by the names of their json tags.
func fields(v any) map[string]any {
	rv := reflect.ValueOf(v)
	out := make(map[string]any, rv.NumField())
	for i := range rv.NumField() {
		name, _, _ := strings.Cut(rv.Type().Field(i).Tag.Get("json"), ",")
		out[name] = value(rv.Field(i).Interface())
	}
	return out
}

func value(v any) any {
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return nil
		}
		return value(rv.Elem().Interface())
	}
	if raw, ok := v.(resource.Raw); ok {
		return hex.EncodeToString(raw)
	}
	if t, ok := v.(encoding.TextMarshaler); ok {
		if b, err := t.MarshalText(); err == nil && len(b) > 0 {
			return string(b)
		}
		return nil // an address or prefix that is not set
	}
	switch rv.Kind() {
	case reflect.Struct:
		return fields(v)
	case reflect.Slice:
		out := make([]any, rv.Len())
		for i := range out {
			out[i] = value(rv.Index(i).Interface())
		}
		return out
	default:
		return v
	}
}
