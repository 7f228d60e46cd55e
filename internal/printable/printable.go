// Package printable makes text of scripts, nodes and files fit for a terminal.
package printable

import (
	"fmt"
	"strings"
	"unicode"
)

// Text is s with every character that does not print as an escape that does, but
// for those of keep: nothing in it moves a cursor.
func Text(s, keep string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(keep, r) }
	if strings.IndexFunc(s, odd) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if odd(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
