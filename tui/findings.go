package tui

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
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
			fmt.Fprintf(w, "%s:%d:%d: %s: %s (%s)\n", shown(f.File), f.Line, f.Col, s.wrap(colour, level), shown(f.Text), f.Rule)
			if f.Hint != "" {
				fmt.Fprintf(w, "  hint: %s\n", shown(f.Hint))
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

// The part of SARIF 2.1.0 that code review tools read, and all that GitHub's code scanning wants.
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
		Columns string        `json:"columnKind"` // what a column counts
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
		ID     string    `json:"id"`
		Short  sarifText `json:"shortDescription"`
		Full   sarifText `json:"fullDescription"`
		Help   sarifText `json:"help"`
		Config struct {
			Level lint.Level `json:"level"`
		} `json:"defaultConfiguration"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     lint.Level      `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact sarifFile `json:"artifactLocation"`
			Region   struct {
				Line int `json:"startLine"`
				Col  int `json:"startColumn"`
			} `json:"region"`
		} `json:"physicalLocation"`
	}
	sarifFile struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId,omitempty"` // of one that is relative
	}
)

func sarif(found []lint.Finding) sarifLog {
	log := sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: make([]sarifRun, 1)}
	run := &log.Runs[0]
	run.Tool.Driver.Name, run.Columns = "runbook check", "unicodeCodePoints"
	run.Results = []sarifResult{}
	index := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(lint.Rules)) {
		text := sarifText{lint.Rules[name].Doc}
		rule := sarifRule{ID: name, Short: text, Full: text, Help: text}
		rule.Config.Level = lint.Rules[name].Level
		index[name] = len(index)
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
	}
	for _, f := range found {
		text := f.Text
		if f.Hint != "" {
			text += " (" + f.Hint + ")"
		}
		r := sarifResult{RuleID: f.Rule, RuleIndex: index[f.Rule], Level: lint.Rules[f.Rule].Level, Message: sarifText{text}, Locations: make([]sarifLocation, 1)}
		at := &r.Locations[0].Physical
		at.Artifact, at.Region.Line, at.Region.Col = artifact(f.File), f.Line, f.Col
		run.Results = append(run.Results, r)
	}
	return log
}

// artifact names a file as a URI: from the folder in which the command runs, which
// is the root of the repository where a review tool runs it, or else absolute.
func artifact(file string) sarifFile {
	abs, err := filepath.Abs(file)
	if err != nil {
		return sarifFile{(&url.URL{Path: filepath.ToSlash(file)}).String(), "%SRCROOT%"}
	}
	here, err := os.Getwd()
	if err == nil {
		if rel, err := filepath.Rel(here, abs); err == nil && filepath.IsLocal(rel) {
			return sarifFile{(&url.URL{Path: filepath.ToSlash(rel)}).String(), "%SRCROOT%"}
		}
	}
	return sarifFile{URI: (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}).String()}
}
