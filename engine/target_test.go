package engine

import (
	"strings"
	"testing"
)

func TestShortNames(t *testing.T) {
	for name, want := range map[string]string{
		"pg service=main via db-1": "pg service=main via db-1",
		"pg host=db-1.example.net port=5433 dbname=shop user=a sslmode=verify-full via web-1": "pg db-1.example.net:5433/shop via web-1",
		"pg hostaddr = 10.0.0.1 user=a":                  "pg 10.0.0.1",
		"pg host='/var/run/my pg' dbname='a b'":          "pg /var/run/my pg/a b",
		"pg postgres://a@db-1:5433/shop?sslmode=disable": "pg db-1:5433/shop",
		"pg postgres://a@db-1,db-2/shop":                 "pg db-1,db-2/shop",
		"pg host=db-1,db-2 port=5433,5434 dbname=shop":   "pg db-1:5433,db-2:5434/shop",
		"pg host=db-1,db-2 port=5433":                    "pg db-1:5433,db-2:5433",
		"pg dbname=shop":                                 "pg dbname=shop",
		"bouncer host=db-1 port=6432 dbname=pgbouncer":   "bouncer db-1:6432/pgbouncer",
		"pg xhost=1 port=2":                              "pg xhost=1 port=2",
	} {
		target, is := ParseTarget(name)
		if got := target.Short(); !is || got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A limit that is hit says whether it was a node's or a server's.
func TestBudgetOfTarget(t *testing.T) {
	for name, on := range map[string]string{"db-1": "node", "pg service=main via db-1": "server"} {
		b := NewBudget(name, Limits{LimitCallsPerNode: {N: 0}}, nil)
		if err := b.Call(); err == nil || !strings.Contains(err.Error(), "call 1 on the "+on+",") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
