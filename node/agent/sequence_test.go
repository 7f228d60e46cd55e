package agent

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
)

// states are few keys with few values, so that edits of one sequence often agree, and often do not.
func states() *rapid.Generator[resource.State] {
	return rapid.Custom(func(t *rapid.T) resource.State {
		s := resource.State{}
		for i := range 4 {
			r := resource.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16), Table: resource.TableMain, Type: resource.Unicast}
			switch rapid.IntRange(0, 4).Draw(t, "route") {
			case 0:
				continue
			case 1:
				s[r.Key()] = nil
				continue
			case 2:
				r.Hops = []resource.Hop{{Dev: "eth1"}}
			case 3:
				r.Proto = resource.ProtoRA // volatile
			}
			s[r.Key()] = r
		}
		a := resource.Addr{Dev: "eth1", Prefix: netip.MustParsePrefix("10.98.0.2/16"), Place: rapid.IntRange(0, 1).Draw(t, "place")}
		s[a.Key()] = a
		return s
	})
}

// What the agent unpacks is what the controller packed.
func TestSequenceSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var edits []engine.Edit
		for i := range rapid.IntRange(0, 5).Draw(t, "edits") {
			e := engine.Edit{ID: fmt.Sprint("r/", i), Settle: engine.Duration(engine.DefaultSettle)}
			for n := range rapid.IntRange(0, 3).Draw(t, "selectors") {
				e.Query = append(e.Query, resource.Selector{Kind: resource.KindRoute, Family: 4 + n%2*2})
			}
			if rapid.Bool().Draw(t, "before") {
				e.Before = states().Draw(t, "is")
				e.After = e.Before
			}
			switch {
			case e.Before != nil && rapid.Bool().Draw(t, "changes"):
				// As a pass has them: a volatile resource, and a place, are no difference.
				e.After = e.Before.Clone()
				e.Want = resource.State{}
				for _, c := range resource.Compare(e.Before, states().Draw(t, "becomes")) {
					e.Want[c.Key] = c.After
					delete(e.After, c.Key)
					if c.After != nil {
						e.After[c.Key] = c.After
					}
				}
			case rapid.Bool().Draw(t, "only after"):
				e.After = states().Draw(t, "after")
				if e.Before != nil {
					e.After = nil
				}
			}
			if len(e.Want) == 0 {
				e.Want = nil
			}
			edits = append(edits, e)
		}
		b, err := json.Marshal(pack(edits))
		if err != nil {
			t.Fatal(err)
		}
		var s sequence
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		got, err := s.unpack()
		if err != nil || !reflect.DeepEqual(got, edits) {
			t.Errorf("%s\nbecame %+v (%v)\nwant %+v", b, got, err, edits)
		}
	})
}

// A key that no edit before has spoken of, or a selector that is not there, is an error.
func TestSequenceOfNothing(t *testing.T) {
	for _, text := range []string{
		`{"edits":[{"edit":{},"query":[0]}]}`,
		`{"edits":[{"edit":{},"query":[-1]}],"selectors":[{"kind":"link"}]}`,
		`{"edits":[{"edit":{"before":{},"changes":{}},"same":["link eth1"]}]}`,
		`{"edits":[{"edit":{"before":{"link":[{"name":"eth1"}]},"changes":{}}},{"edit":{},"same":["link eth1"]}]}`,
	} {
		var s sequence
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if edits, err := s.unpack(); err == nil {
			t.Errorf("%s is unpacked as %+v", text, edits)
		}
	}
}
