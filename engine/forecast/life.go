package forecast

import (
	"fmt"
	"strconv"
	"time"
)

// Life is how long a backend lives whose client is gone.
type Life struct {
	Gone   time.Duration // where the client's address is gone too: nothing answers the probes
	Back   time.Duration // where that is there again: it answers the first probe with a reset
	Why    string        // what ends it
	Advice string        // how it could be shorter; "": it is short
}

// What Linux does where a server says 0: two hours, then nine probes.
const (
	systemIdle     = 7200 * time.Second
	systemInterval = 75 * time.Second
	systemCount    = 9
)

// long is from when on it is worth saying how the dead could go sooner.
const long = time.Minute

// LifeOf works out how long a dead backend lives from a server's settings, by their names; setting
// returns a value in the unit that the server has for it. What counts are those whose clients are idle, as
// those of pools are: the first probe, after tcp_keepalives_idle, finds the client gone where its address is there again; else the last one
// does, or tcp_user_timeout. idle_session_timeout ends them too, and healthy ones with them.
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
	life := Life{Gone: idle + time.Duration(count)*interval, Back: idle, Why: fmt.Sprintf("tcp_keepalives %s + %d x %s", idle, count, interval)}
	if system {
		life.Why += ", the system's"
	}
	if user > 0 && idle+max(user-idle, interval) < life.Gone { // it counts from the last sign of life, and is looked at when a probe is due
		life.Gone, life.Why = idle+max(user-idle, interval), fmt.Sprintf("tcp_keepalives_idle %s, tcp_user_timeout %s", idle, user)
	}
	if session > 0 && session < life.Gone {
		life.Gone, life.Back, life.Why = session, min(session, life.Back), fmt.Sprintf("idle_session_timeout %s", session)
	}
	if life.Gone > long {
		life.Advice = "tcp_keepalives_idle, tcp_user_timeout and client_connection_check_interval on the server make the dead go sooner"
	}
	return life
}
