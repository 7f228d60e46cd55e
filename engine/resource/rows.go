package resource

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
)

// Rows is what a server answers to a question: to one that has a name ("locks", or
// what SHOW of a pgbouncer takes), or to a query of a runbook's own ([AskSQL]). It is for looking only.
type Rows struct {
	Server  string   `json:"server"`
	Ask     string   `json:"ask"`
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"` // text, whole numbers, float64, bool and nil
}

// SQL is a query of a runbook's own, with what stands for $1, $2, ….
type SQL struct {
	Query string `json:"query"`
	Args  []any  `json:"args,omitempty"`
}

// AskSQL is the question that q is.
func AskSQL(q SQL) (string, error) {
	b, err := json.Marshal(q)
	return string(b), err
}

// ParseAsk is the reverse of [AskSQL]; ok is false of a question that has a name.
func ParseAsk(ask string) (q SQL, ok bool) {
	if ask == "" || ask[0] != '{' {
		return q, false
	}
	dec := json.NewDecoder(strings.NewReader(ask))
	dec.UseNumber() // a number keeps its digits
	return q, dec.Decode(&q) == nil
}

// askValue is how the question begins what a value of a setting comes to.
const askValue = "value "

// AskValue is the question what the setting name comes to, in a session that sets it to value: one row with
// that, or none where a session cannot set it.
func AskValue(name, value string) string { return askValue + name + " " + value }

// ParseAskValue is the reverse of [AskValue]; ok is false of another question.
func ParseAskValue(ask string) (name, value string, ok bool) {
	if ask, ok = strings.CutPrefix(ask, askValue); !ok {
		return "", "", false
	}
	return strings.Cut(ask, " ")
}

// Key implements [Resource]. Queries are long, and so are told apart by their hashes.
func (r Rows) Key() Key {
	what := r.Ask
	if _, own := ParseAsk(what); own {
		sum := sha256.Sum256([]byte(what))
		what = fmt.Sprintf("sql:%x", sum[:8])
	}
	return serverKey(KindRows, what, r.Server)
}

// Match implements [Resource].
func (r Rows) Match(s Selector) bool {
	return (s.Name == "" || s.Name == r.Server) && (s.Ask == "" || s.Ask == r.Ask)
}

// Volatile implements [Resource].
func (r Rows) Volatile() bool { return true }

func (r Rows) String() string { return fmt.Sprintf("%d of %s on %s", len(r.Rows), r.Ask, r.Server) }

// Records are the rows with the names of their columns.
func (r Rows) Records() []map[string]any {
	out := make([]map[string]any, len(r.Rows))
	for i, row := range r.Rows {
		out[i] = make(map[string]any, len(row))
		for j, v := range row {
			out[i][r.Columns[j]] = v
		}
	}
	return out
}
