package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a machine may have no time zones of its own
)

// This file is when changes may be made.

const timeForm = "Mon 2006-01-02 15:04 MST"

// window is a time of the day, on some days of the week. One whose end is not
// after its beginning goes on into the next day.
type window struct {
	days     []time.Weekday // nil: every day
	from, to time.Duration  // since midnight by the clock; to is not in it
	zone     *time.Location
	pos      string
}

func (w window) covers(t time.Time) bool {
	t = t.In(w.zone)
	hour, minute, second := t.Clock()
	clock := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
	on := func(d time.Weekday) bool { return w.days == nil || slices.Contains(w.days, d) }
	if w.from < w.to {
		return on(t.Weekday()) && clock >= w.from && clock < w.to
	}
	return on(t.Weekday()) && clock >= w.from || on((t.Weekday()+6)%7) && clock < w.to
}

func (w window) String() string {
	days := "every day"
	if w.days != nil {
		var names []string
		for _, d := range w.days {
			names = append(names, strings.ToLower(d.String()[:3]))
		}
		days = strings.Join(names, ",")
	}
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	return fmt.Sprintf("%s %s-%s %s", days, clock(w.from), clock(w.to), w.zone)
}

// freeze is a time in which nothing is changed.
type freeze struct {
	from, to time.Time // to is not in it
	why, pos string
}

func (f freeze) covers(t time.Time) bool { return !t.Before(f.from) && t.Before(f.to) }

func (f freeze) reason() string {
	if f.why == "" {
		return ""
	}
	return ": " + f.why
}

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

// clockTime reads "09:30", and "24:00" as the end of the day.
func clockTime(s string) (time.Duration, error) {
	if s == "24:00" {
		return 24 * time.Hour, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("want a time of the day such as \"09:30\", got %q", s)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// zoned returns what reads the name of a time zone.
func zoned(to **time.Location) func(string) error {
	return func(name string) (err error) {
		if name == "Local" {
			return fmt.Errorf("want a time zone such as Europe/Berlin, got %q: it is another for everybody who runs this", name)
		}
		*to, err = time.LoadLocation(name)
		return err
	}
}

// moment reads a day or a day and time. The end of a freeze that names a day is the end of that day.
func moment(s string, zone *time.Location, end bool) (time.Time, error) {
	if t, err := time.ParseInLocation("2006-01-02", s, zone); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	if t, err := time.ParseInLocation("2006-01-02 15:04", s, zone); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf(`want a day such as 2026-12-20, or "2026-12-20 18:00", got %q`, s)
	}
	return t, nil
}
