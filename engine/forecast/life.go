package forecast

import (
	"fmt"
	"strconv"
	"time"
)

// Life is how long a backend lives whose client is gone.
type Life struct {
	Gone     time.Duration // where nothing answers its probes: the client's address is gone too
	Idle     time.Duration // after which the first of them is sent
	Interval time.Duration // after which each other one is
	Why      string        // what ends it
	Advice   string        // how it could be shorter; "": it is short
}

// Back is how long it lives where the client's address is there again after an outage:
// the first probe from then on is answered with a reset.
func (l Life) Back(outage time.Duration) time.Duration {
	probe := l.Idle
	for probe <= outage && probe < l.Gone && l.Interval > 0 {
		probe += l.Interval
	}
	return min(probe, l.Gone)
}

// What Linux does where a server says 0: two hours, then nine probes.
const (
	systemIdle     = 7200 * time.Second
	systemInterval = 75 * time.Second
	systemCount    = 9
	systemGone     = systemIdle + systemCount*systemInterval
)

// long is from when on it is worth saying how the dead could go sooner.
const long = time.Minute

// LifeOf works out how long a dead backend lives from a server's settings, by their names; setting
// returns a value in the unit that the server has for it. What counts are those whose clients are idle, as
// those of pools are. Linux sends the first probe after tcp_keepalives_idle and gives up with the last one, or, where
// tcp_user_timeout is set, with the first but one that is due after that, however many these are. idle_session_timeout ends them too, and healthy ones with them.
func LifeOf(setting func(name string) string) Life {
	number := func(name string, unit time.Duration) time.Duration {
		n, err := strconv.ParseInt(setting(name), 10, 64)
		if err != nil || n < 0 {
			return 0
		}
		return time.Duration(n) * unit
	}
	idle, interval := number("tcp_keepalives_idle", time.Second), number("tcp_keepalives_interval", time.Second)
	count, _ := strconv.Atoi(setting("tcp_keepalives_count"))
	user, session := number("tcp_user_timeout", time.Millisecond), number("idle_session_timeout", time.Millisecond)
	system := idle == 0
	if idle == 0 {
		idle = systemIdle
	}
	if interval == 0 {
		interval = systemInterval
	}
	if count <= 0 {
		count = systemCount
	}
	life := Life{Gone: idle + time.Duration(count)*interval, Idle: idle, Interval: interval, Why: fmt.Sprintf("tcp_keepalives %s + %d x %s", idle, count, interval)}
	if system {
		life.Why += ", the system's"
	}
	if user > 0 {
		probes := max(1, (user-idle+interval-1)/interval)
		life.Gone, life.Why = idle+probes*interval, fmt.Sprintf("tcp_keepalives_idle %s, tcp_user_timeout %s", idle, user)
	}
	if session > 0 && session < life.Gone {
		life.Gone, life.Why = session, fmt.Sprintf("idle_session_timeout %s", session)
	}
	if life.Gone > long {
		life.Advice = "tcp_keepalives_idle, tcp_user_timeout and client_connection_check_interval on the server make the dead go sooner"
	}
	return life
}
