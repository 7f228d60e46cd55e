package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// The variables that make the test binary a program that makes a lab and then
// waits, so that a test can kill it.
const (
	makeLabVar  = "LAB_TEST_MAKE"     // the lab's folder, or "temporary"
	standingVar = "LAB_TEST_STANDING" // not empty: a standing lab
)

func TestMain(m *testing.M) {
	if IsChild() {
		ChildMain()
	}
	if dir := os.Getenv(makeLabVar); dir != "" {
		makeAndWait(dir)
	}
	os.Exit(m.Run())
}

func makeAndWait(dir string) {
	if dir == "temporary" {
		dir = ""
	}
	l, err := Up(context.Background(), Options{Nodes: 2, Dir: dir, Standing: os.Getenv(standingVar) != ""})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.HolderPID(), l.Dir())
	select {}
}
