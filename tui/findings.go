package tui

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"runbook/engine"
	"runbook/engine/script/lint"
)

// Findings writes what a check found in a format: text, json or sarif.
func Findings(w io.Writer, found []lint.Finding, format string, s Style) error {
	switch format {
	case "text":
		for _, f := range found {
			level := string(lint.Rules[f.Rule].Level)
			colour := yellow
			if lint.Rules[f.Rule].Level == lint.Error {
				colour = red
			}
			fmt.Fprintf(w, "%s:%d:%d: %s: %s (%s)\n", f.File, f.Line, f.Col, s.wrap(colour, level), f.Text, f.Rule)
			if f.Hint != "" {
				fmt.Fprintf(w, "  hint: %s\n", f.Hint)
			}
		}
		return nil
	case "json":
		return indented(w, findingsDoc{Version: 1, Findings: withLevels(found)})
	case "sarif":
		return indented(w, sarif(found))
	}
	return engine.Invalid.Errorf("--format %s: want text, json or sarif", format)
}

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// The published form of findings. Fields are added, never renamed.
type (
	findingsDoc struct {
		Version  int          `json:"v"`
		Findings []findingDoc `json:"findings"`
	}
	findingDoc struct {
		lint.Finding
		Level lint.Level `json:"level"`
	}
)

func withLevels(found []lint.Finding) []findingDoc {
	out := []findingDoc{}
	for _, f := range found {
		out = append(out, findingDoc{f, lint.Rules[f.Rule].Level})
	}
	return out
}

// The part of SARIF 2.1.0 that code review tools read.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     lint.Level      `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region struct {
				Line int `json:"startLine"`
				Col  int `json:"startColumn"`
			} `json:"region"`
		} `json:"physicalLocation"`
	}
)

func sarif(found []lint.Finding) sarifLog {
	log := sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: make([]sarifRun, 1)}
	run := &log.Runs[0]
	run.Tool.Driver.Name = "runbook check"
	run.Results = []sarifResult{}
	for _, name := range slices.Sorted(maps.Keys(lint.Rules)) {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{name, sarifText{lint.Rules[name].Doc}})
	}
	for _, f := range found {
		text := f.Text
		if f.Hint != "" {
			text += " (" + f.Hint + ")"
		}
		r := sarifResult{RuleID: f.Rule, Level: lint.Rules[f.Rule].Level, Message: sarifText{text}, Locations: make([]sarifLocation, 1)}
		at := &r.Locations[0].Physical
		at.Artifact.URI, at.Region.Line, at.Region.Col = f.File, f.Line, f.Col
		run.Results = append(run.Results, r)
	}
	return log
}
