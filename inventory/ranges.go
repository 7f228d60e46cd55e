package inventory

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// maxRange bounds the names that one range stands for, so that a typing error
// does not make a million nodes.
const maxRange = 10_000

var rangeForm = regexp.MustCompile(`^\[(?:(\d{1,9}):(\d{1,9})|([a-z]):([a-z])|([A-Z]):([A-Z]))(?::(\d{1,9}))?\]`)

// isRange reports whether a name has a range in it.
func isRange(name string) bool {
	open := strings.IndexByte(name, '[')
	return open >= 0 && strings.Contains(name[open:], ":")
}

// expand returns the names that name stands for: itself, or one for each value
// of its ranges, the last of them counting fastest.
func expand(name string) ([]string, error) {
	out := []string{""}
	for rest := name; rest != ""; {
		open := strings.IndexByte(rest, '[')
		if open < 0 {
			open = len(rest)
		}
		values, used := []string{rest[:open]}, open
		if open == 0 {
			var err error
			if values, used, err = firstRange(rest); err != nil {
				return nil, err
			}
		}
		if len(out)*len(values) > maxRange {
			return nil, fmt.Errorf("%s stands for more than %d names", name, maxRange)
		}
		rest = rest[used:]
		next := make([]string, 0, len(out)*len(values))
		for _, o := range out {
			for _, v := range values {
				next = append(next, o+v)
			}
		}
		out = next
	}
	return out, nil
}

// firstRange returns the values of the range at the beginning of s, and its length.
func firstRange(s string) (values []string, used int, err error) {
	m := rangeForm.FindStringSubmatch(s)
	if m == nil {
		if end := strings.IndexByte(s, ']'); end >= 0 {
			s = s[:end+1]
		}
		return nil, 0, fmt.Errorf("%s is not a range: want two numbers or two letters, such as [1:12], [01:12] or [a:f]", s)
	}
	first, last, width := 0, 0, 0
	form := func(i int) string { return string(rune(i)) }
	switch from, to := m[1]+m[3]+m[5], m[2]+m[4]+m[6]; {
	case m[1] == "":
		first, last = int(from[0]), int(to[0])
	default:
		first, _ = strconv.Atoi(from) // the form allows digits only
		last, _ = strconv.Atoi(to)
		if from[0] == '0' && len(from) > 1 {
			if width = len(from); len(to) != width {
				return nil, 0, fmt.Errorf("%s has ends of different lengths: want [%s:%0*d] or [%d:%d]", m[0], from, width, last, first, last)
			}
		}
		form = func(i int) string { return fmt.Sprintf("%0*d", width, i) }
	}
	step := 1
	if m[7] != "" {
		step, _ = strconv.Atoi(m[7])
	}
	switch {
	case first > last:
		return nil, 0, fmt.Errorf("%s counts down: the smaller end comes first", m[0])
	case step == 0:
		return nil, 0, fmt.Errorf("%s never ends: its step is 0", m[0])
	case (last-first)/step >= maxRange:
		return nil, 0, fmt.Errorf("%s stands for more than %d names", m[0], maxRange)
	}
	for i := first; i <= last; i += step {
		values = append(values, form(i))
	}
	return values, len(m[0]), nil
}
