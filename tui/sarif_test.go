package tui_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"runbook/engine/script/lint"
	"runbook/tui"
)

// sarifObject is what the schema of SARIF 2.1.0 says of one kind of object, as far as a
// log of ours has it. The schema forbids all properties that it does not name.
type sarifObject struct {
	required []string
	has      map[string]any // by name: a sarifObject, a []sarifObject of one, a []string of what it may be, "text", "from 0" or "from 1"
}

var sarifMessage = sarifObject{required: []string{"text"}, has: map[string]any{"text": "text"}}

var sarifSchema = sarifObject{required: []string{"version", "runs"}, has: map[string]any{
	"$schema": "text",
	"version": []string{"2.1.0"},
	"runs": []sarifObject{{required: []string{"tool"}, has: map[string]any{
		"columnKind": []string{"utf16CodeUnits", "unicodeCodePoints"},
		"tool": sarifObject{required: []string{"driver"}, has: map[string]any{
			"driver": sarifObject{required: []string{"name"}, has: map[string]any{
				"name": "text",
				"rules": []sarifObject{{required: []string{"id"}, has: map[string]any{
					"id": "text", "shortDescription": sarifMessage, "fullDescription": sarifMessage, "help": sarifMessage,
					"defaultConfiguration": sarifObject{has: map[string]any{"level": []string{"none", "note", "warning", "error"}}},
				}}},
			}},
		}},
		"results": []sarifObject{{required: []string{"message"}, has: map[string]any{
			"ruleId": "text", "ruleIndex": "from 0", "level": []string{"none", "note", "warning", "error"}, "message": sarifMessage,
			"locations": []sarifObject{{has: map[string]any{
				"physicalLocation": sarifObject{required: []string{"artifactLocation"}, has: map[string]any{
					"artifactLocation": sarifObject{has: map[string]any{"uri": "text", "uriBaseId": "text"}},
					"region":           sarifObject{required: []string{"startLine"}, has: map[string]any{"startLine": "from 1", "startColumn": "from 1"}},
				}},
			}}},
		}}},
	}}},
}}

// wrong says where v is not as the schema wants it.
func (o sarifObject) wrong(at string, v any) []string {
	m, ok := v.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %T", at, v)}
	}
	var out []string
	for _, name := range o.required {
		if _, has := m[name]; !has {
			out = append(out, at+" has no "+name)
		}
	}
	for name, v := range m {
		if _, known := o.has[name]; !known {
			out = append(out, at+" has a "+name)
			continue
		}
		out = append(out, sarifWrong(at+"."+name, o.has[name], v)...)
	}
	return out
}

func sarifWrong(at string, want, v any) (out []string) {
	ok := true
	switch want := want.(type) {
	case sarifObject:
		return want.wrong(at, v)
	case []sarifObject:
		list, isList := v.([]any)
		for i, e := range list {
			out = append(out, want[0].wrong(fmt.Sprintf("%s[%d]", at, i), e)...)
		}
		ok = isList
	case []string:
		text, isText := v.(string)
		ok = isText && slices.Contains(want, text)
	default:
		text, isText := v.(string)
		n, isNumber := v.(float64)
		ok = want == "text" && isText && text != "" || isNumber && n == float64(int(n)) && (want == "from 0" && n >= 0 || want == "from 1" && n >= 1)
	}
	if !ok {
		out = append(out, fmt.Sprintf("%s is %v, want %v", at, v, want))
	}
	return out
}

// TestSARIFSchema holds a log to the schema: every object has what it must, and no more than it may.
func TestSARIFSchema(t *testing.T) {
	var found []lint.Finding
	for rule := range lint.Rules {
		found = append(found, lint.Finding{File: "ü \x1b.star", Line: 1, Col: 1, Rule: rule, Text: "é€😀 \x1b[2J", Hint: "\n\r"})
	}
	for _, f := range [][]lint.Finding{found, nil} {
		var b bytes.Buffer
		if err := tui.Findings(&b, f, "sarif", tui.Style{}); err != nil {
			t.Fatal(err)
		}
		var log any
		if err := json.Unmarshal(b.Bytes(), &log); err != nil {
			t.Fatal(err)
		}
		for _, w := range sarifSchema.wrong("log", log) {
			t.Error(w)
		}
		if bytes.ContainsAny(b.Bytes(), "\x1b\r") {
			t.Errorf("%q", b.String())
		}
	}
	var b bytes.Buffer
	if err := tui.Findings(&b, found, "text", tui.Style{}); err != nil || bytes.ContainsAny(b.Bytes(), "\x1b\r") || bytes.Count(b.Bytes(), []byte("\n")) != 2*len(found) {
		t.Errorf("%v: %q", err, b.String())
	}
}
