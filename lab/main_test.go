package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// makeLabVar makes the test binary a program that makes a lab in the folder
// that it names and then waits, so that a test can kill it.
const makeLabVar = "LAB_TEST_MAKE"

func TestMain(m *testing.M) {
	if IsChild() {
		ChildMain()
	}
	if dir := os.Getenv(makeLabVar); dir != "" {
		if dir == "temporary" {
			dir = ""
		}
		l, err := Up(context.Background(), Options{Nodes: 2, Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.HolderPID(), l.Dir())
		select {}
	}
	os.Exit(m.Run())
}
