package resource

import (
	"strings"
	"testing"
)

// What says a password is shown without it, and can still be told from what says none.
func TestHidePassword(t *testing.T) {
	for text, want := range map[string]string{
		"host=a user=b":                            "host=a user=b",
		"host=a password=hunter2 user=b":           "host=a password=********",
		"host=a PassWord = 'hunter 2' x":           "host=a PassWord =********",
		"sslpassword=hunter2 password=hunter2":     "sslpassword=********",
		"postgres://app:hunter2@db-1/x":            "postgres://app:********@",
		"postgres://app@db-1/x?pass%77ord=hunter2": "password=********",
		"postgres://app@db-1:5432/x":               "postgres://app@db-1:5432/x",
		"backup --password=hunter2 %p":             "backup --password=********",
	} {
		got := HidePassword(text)
		if got != want || strings.Contains(got, "hunter2") || HasPassword(got) != HasPassword(text) || HidePassword(got) != got {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
