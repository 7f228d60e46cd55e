package builtins

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"runbook/engine/resource"
)

// This file is how Postgres reads the value of a setting (guc.c): what a change
// would come to is known before it is made, and what the server would refuse is refused.

// settingValue is what text comes to as the value of c: in its unit, as pg_settings shows it.
func settingValue(c resource.Setting, text string) (string, error) {
	switch c.Type {
	case "bool":
		if b, ok := readBool(text); ok {
			return b, nil
		}
		return "", fmt.Errorf("%s is %q: want on or off", c.Name, text)
	case "enum":
		i := slices.IndexFunc(c.Options, func(o string) bool { return strings.EqualFold(o, text) })
		if i < 0 {
			return "", fmt.Errorf("%s is %q: want one of %s", c.Name, text, strings.Join(c.Options, ", "))
		}
		if c.Options[i] == "on" && slices.Contains(c.Options, "pglz") {
			return "pglz", nil // wal_compression, of which on is another name for that
		}
		return c.Options[i], nil
	case "integer", "real":
		return readNumber(c, text)
	default:
		return resource.SettingText(c.Name, text), nil
	}
}

// readBool reads what parse_bool does: also the beginning of a word, where it is of one only.
func readBool(text string) (string, bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	for _, w := range []struct {
		word, is string
		least    int // so many letters of it
	}{{"true", "on", 1}, {"false", "off", 1}, {"yes", "on", 1}, {"no", "off", 1}, {"on", "on", 2}, {"off", "off", 2}, {"1", "on", 1}, {"0", "off", 1}} {
		if len(text) >= w.least && strings.HasPrefix(w.word, text) {
			return w.is, true
		}
	}
	return "", false
}

// readNumber reads a number with the unit of c, or another of its kind.
func readNumber(c resource.Setting, text string) (string, error) {
	text = strings.TrimSpace(text)
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || strings.IndexByte("+-.", text[end]) >= 0 ||
		(text[end] == 'e' || text[end] == 'E') && end > 0 && end+1 < len(text) && strings.IndexByte("+-0123456789", text[end+1]) >= 0) {
		end++
	}
	n, err := strconv.ParseFloat(text[:end], 64)
	unit := strings.TrimSpace(text[end:])
	if whole, ok := otherBase(text); ok && c.Type == "integer" {
		n, unit, err = whole, "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s is %q: want a number%s", c.Name, text, inUnits(c))
	}
	if unit != "" {
		base, given, ok := resource.UnitSize(c.Unit, unit)
		if !ok {
			return "", fmt.Errorf("%s is %q: want a number%s", c.Name, text, inUnits(c))
		}
		n = n * given / base
	}
	out := strconv.FormatFloat(n, 'g', 6, 64)
	if c.Type == "integer" {
		n = math.RoundToEven(n)
		out = strconv.FormatFloat(n, 'f', 0, 64)
		if len(c.Value) > 1 && c.Value[0] == '0' { // the mode of a file
			out = fmt.Sprintf("%04o", int64(n))
		}
	}
	low, err1 := strconv.ParseFloat(c.Min, 64)
	high, err2 := strconv.ParseFloat(c.Max, 64)
	if err1 == nil && n < low || err2 == nil && n > high {
		return "", fmt.Errorf("%s is %s: it can be from %s to %s%s", c.Name, text, c.Min, c.Max, ofUnit(c))
	}
	return out, nil
}

// otherBase reads what C reads as octal or hexadecimal.
func otherBase(text string) (float64, bool) {
	if len(text) < 2 || text[0] != '0' || strings.ContainsAny(text, "_oObB") && !strings.HasPrefix(strings.ToLower(text), "0x") {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 0, 64)
	return float64(n), err == nil
}

func inUnits(c resource.Setting) string {
	if c.Unit == "" {
		return ", without a unit"
	}
	return fmt.Sprintf(", in %s or with a unit of its own, such as %s", c.Unit, map[bool]string{true: "64MB", false: "10s"}[strings.HasSuffix(c.Unit, "B")])
}

func ofUnit(c resource.Setting) string {
	if c.Unit == "" {
		return ""
	}
	return " " + c.Unit
}
