package integration

import "testing"

func TestMissing(t *testing.T) {
	if err := missing("sh"); err != nil {
		t.Error(err)
	}
	if err := missing("no-such-program"); err == nil {
		t.Error("a program that does not exist is not missing")
	}
}
