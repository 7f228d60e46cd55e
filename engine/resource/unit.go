package resource

import (
	"math"
	"strconv"
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
