package resource

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// units are those of settings, each family with what one is in the smallest, the largest first.
var units = [][]struct {
	Name string
	Size float64
}{
	{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}},
	{{"d", 86_400e6}, {"h", 3600e6}, {"min", 60e6}, {"s", 1e6}, {"ms", 1e3}, {"us", 1}},
}

// UnitSize is how much one of unit is, and how much the unit named to is in the same
// measure. unit may have a number before it, as "8kB" has. ok: both are sizes, or both are times.
func UnitSize(unit, to string) (size, other float64, ok bool) {
	digits := 0
	for digits < len(unit) && unit[digits] >= '0' && unit[digits] <= '9' {
		digits++
	}
	factor := 1.0
	if digits > 0 {
		n, _ := strconv.Atoi(unit[:digits]) // digits
		factor = float64(n)
	}
	for _, family := range units {
		size, other = 0, 0
		for _, u := range family {
			if u.Name == unit[digits:] {
				size = u.Size * factor
			}
			if u.Name == to {
				other = u.Size
			}
		}
		if size > 0 && other > 0 {
			return size, other, true
		}
	}
	return 0, 0, false
}

// ShowSetting is a value in unit as the server's SHOW prints it: in the largest unit in which it is whole.
func ShowSetting(value, unit string) string {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || unit == "" || n <= 0 { // 0 and -1 mean something special, mostly
		return value
	}
	for _, family := range units {
		for _, u := range family {
			if size, one, ok := UnitSize(unit, u.Name); ok && math.Mod(n*size, one) == 0 {
				return strconv.FormatFloat(n*size/one, 'f', -1, 64) + u.Name
			}
		}
	}
	return value + unit
}

// settingLists are the settings that are lists of names, each of which is quoted by
// itself. No extension can add to these.
var settingLists = []string{
	"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories",
}

// IsSettingList reports whether the setting name is one of these.
func IsSettingList(name string) bool { return slices.Contains(settingLists, strings.ToLower(name)) }

// SettingItems are the parts of the value of a setting: one, but of a list of names.
func SettingItems(name, value string) []string {
	if value == "" || !IsSettingList(name) {
		return []string{value}
	}
	var out []string
	quoted, from := false, 0
	for i, r := range value + "," {
		if r == '"' {
			quoted = !quoted // a doubled one twice
		}
		if r != ',' || quoted && i < len(value) {
			continue
		}
		item := strings.TrimSpace(value[from:i])
		if inner, ok := strings.CutPrefix(item, `"`); ok {
			item = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
		}
		out, from = append(out, item), i+1
	}
	return out
}

// plainName is a name that needs no quotes.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// SettingText is value as ALTER SYSTEM writes it: a list of names with quotes where they need some.
func SettingText(name, value string) string {
	if !IsSettingList(name) {
		return value
	}
	items := SettingItems(name, value)
	for i, v := range items {
		if !plainName.MatchString(v) {
			items[i] = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
	}
	return strings.Join(items, ", ")
}
