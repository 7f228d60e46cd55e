package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestRuns(t *testing.T) {
	got := runs("a\x1b[1;31mb\x1b[0m 名\x1b[7mx\x1b[m")
	want := []run{
		{look{}, "a", 1}, {look{fg: palette[1], bold: true}, "b", 1}, {look{}, " 名", 3}, {look{reverse: true}, "x", 1},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

// Whatever a terminal shows, the picture is XML.
func TestSVG(t *testing.T) {
	dec := xml.NewDecoder(strings.NewReader(svg("a < b & \x1b[32m\"c\"\x1b[0m\n\x1b[44m \x1b[0m")))
	for {
		if _, err := dec.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
