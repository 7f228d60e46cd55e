package inventory

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestLikeAnsible reads each inventory of testdata/ansible and compares groups and
// variables with NAME.json, which is what Ansible's own ansible-inventory --list
// (2.14) answered for it.
func TestLikeAnsible(t *testing.T) {
	recorded, err := filepath.Glob("testdata/ansible/*.json")
	if err != nil || len(recorded) < 4 {
		t.Fatal(recorded, err)
	}
	for _, file := range recorded {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			dir := strings.TrimSuffix(file, ".json")
			found, err := filepath.Glob(filepath.Join(dir, "hosts*"))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "inv")
			if len(found) == 1 {
				path = found[0]
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			compareWithAnsible(t, path, b)
		})
	}
}

// recordedGroup is a group as ansible-inventory writes it.
type recordedGroup struct {
	Hosts    []string `json:"hosts"`
	Children []string `json:"children"`
}

func compareWithAnsible(t *testing.T, path string, recorded []byte) {
	var groups map[string]recordedGroup
	var meta struct {
		Meta struct {
			Hostvars map[string]map[string]any `json:"hostvars"`
		} `json:"_meta"`
	}
	dec := json.NewDecoder(strings.NewReader(string(recorded)))
	dec.UseNumber()
	if err := dec.Decode(&meta); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(recorded, &groups); err != nil {
		t.Fatal(err)
	}
	src, err := open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = src.resolve(func(m *member, of []*group, _ settings) {
		seen++
		want := meta.Meta.Hostvars[m.name]
		for name, v := range src.said(m, of).vars {
			if got := asRecorded(v); got != "" && got != asRecorded(placed{value: want[name]}) {
				t.Errorf("%s: %s: got %s, want %s", m.name, name, got, asRecorded(placed{value: want[name]}))
			}
			delete(want, name)
		}
		for name, v := range want {
			t.Errorf("%s: there is no %s, want %v", m.name, name, v)
		}
		delete(meta.Meta.Hostvars, m.name)
		var have, wanted []string
		for _, g := range of {
			have = append(have, g.name)
		}
		for g := range groups {
			if g != allGroup && holdsHost(groups, g, m.name) {
				wanted = append(wanted, g)
			}
		}
		slices.Sort(have)
		slices.Sort(wanted)
		if !slices.Equal(have, wanted) {
			t.Errorf("%s: is in %v, want %v", m.name, have, wanted)
		}
	})
	if err != nil || seen == 0 {
		t.Fatal(seen, err)
	}
	if len(meta.Meta.Hostvars) > 0 {
		t.Errorf("there are no %v", slices.Sorted(maps.Keys(meta.Meta.Hostvars)))
	}
}

func holdsHost(groups map[string]recordedGroup, group, host string) bool {
	if slices.Contains(groups[group].Hosts, host) {
		return true
	}
	return slices.ContainsFunc(groups[group].Children, func(c string) bool { return holdsHost(groups, c, host) })
}

// asRecorded writes a value as ansible-inventory does; "" where that cannot be known.
func asRecorded(v any) string {
	var out func(v any) any
	out = func(v any) any {
		switch v := v.(type) {
		case placed:
			return out(v.value)
		case verbatim:
			return map[string]any{"__ansible_unsafe": string(v)}
		case float64:
			return json.Number(strings.TrimSuffix(fmt.Sprintf("%f", v), "00000"))
		case []any:
			list := []any{}
			for i := range v {
				list = append(list, out(v[i]))
			}
			return list
		case map[string]any:
			m := map[string]any{}
			for k := range v {
				m[k] = out(v[k])
			}
			return m
		}
		return v
	}
	if p, ok := v.(placed); ok && reflect.TypeOf(p.value) == reflect.TypeFor[unread]() {
		return ""
	}
	b, err := json.Marshal(out(v))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
