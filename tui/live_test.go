package tui_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/tui"
)

// screen is as much of a terminal as the live view uses: text, CR, LF, cursor
// up and the two ways to erase. It is as high as need be, and what has become
// too long for it when it gets narrower goes on in the next row, as in tmux.
type screen struct {
	width    int
	rows     [][]rune
	on       []bool // the row goes on with the text of the one above
	row, col int
}

func (s *screen) at(row int) {
	for len(s.rows) <= row {
		s.rows, s.on = append(s.rows, nil), append(s.on, false)
	}
	s.row = row
}

func (s *screen) put(r rune) {
	if s.col == s.width {
		s.at(s.row + 1)
		s.on[s.row], s.col = true, 0
	}
	line := s.rows[s.row]
	for len(line) <= s.col {
		line = append(line, ' ')
	}
	line[s.col] = r
	s.rows[s.row] = line
	s.col++
}

func (s *screen) write(text string) {
	s.at(s.row)
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch r {
		case '\r':
			s.col = 0
		case '\n':
			s.at(s.row + 1)
			s.on[s.row] = false
		case '\x1b':
			end := strings.IndexAny(text, "AJK")
			n, _ := strconv.Atoi(strings.TrimPrefix(text[:end], "["))
			switch text[end] {
			case 'A':
				s.row = max(s.row-max(n, 1), 0)
			case 'K':
				s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
			case 'J':
				s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
				s.rows, s.on = s.rows[:s.row+1], s.on[:s.row+1]
			}
			text = text[end+1:]
		default:
			s.put(r)
		}
	}
}

func (s *screen) resize(width int) {
	lines := s.lines()
	s.rows, s.on, s.row, s.col, s.width = nil, nil, 0, 0, width
	for _, l := range lines {
		s.at(s.row)
		for _, r := range l {
			s.put(r)
		}
		s.at(s.row + 1)
		s.col = 0
	}
}

// lines is what stands on it, but for the cursor's own row, which is empty.
func (s *screen) lines() (out []string) {
	for i, r := range s.rows[:len(s.rows)-1] {
		if s.on[i] {
			out[len(out)-1] += string(r)
		} else {
			out = append(out, string(r))
		}
	}
	return out
}

// Whatever is shown one after another, and however the terminal's width changes,
// all that is to stay stands there in its order, and below it the last frame alone.
func TestRedraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &screen{width: 40}
		var stays, frame []string
		for i := range rapid.IntRange(1, 12).Draw(t, "writes") {
			if rapid.Bool().Draw(t, "resize") && i > 0 {
				s.resize(rapid.IntRange(5, 60).Draw(t, "width"))
			}
			var above, next []string
			for range rapid.IntRange(0, 3).Draw(t, "above") {
				above = append(above, fmt.Sprintf("%d%s", i, strings.Repeat("a", rapid.IntRange(0, 150).Draw(t, "long"))))
			}
			for range rapid.IntRange(0, 5).Draw(t, "lines") {
				next = append(next, fmt.Sprintf("%d%s", i, strings.Repeat("f", rapid.IntRange(0, s.width-4).Draw(t, "short"))))
			}
			s.write(tui.Redraw(frame, above, next, s.width))
			stays, frame = append(stays, above...), next
			if got, want := s.lines(), slices.Concat(stays, frame); !slices.Equal(got, want) {
				t.Fatalf("%d columns:\n%s\nwant\n%s", s.width, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	})
}

// Events come from many nodes at a time. All that is to stay is there at the end, in its order, and
// nothing else: not while somebody is asked either.
func TestLiveOfManyNodes(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := tui.NewLive(f)
	shows := func() *screen {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		s := &screen{width: 80}
		s.write(string(b))
		return s
	}
	until := func(what string) {
		for deadline := time.Now().Add(30 * time.Second); !strings.Contains(strings.Join(shows().lines(), "\n"), what); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; but\n%s", what, strings.Join(shows().lines(), "\n"))
			}
		}
	}
	l.Tell(engine.Event{Kind: engine.EventWave, Wave: 1, Nodes: 100, Text: "wave 1 of 1: web-0"})
	until("0 of 100 nodes")
	size := func() int64 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	time.Sleep(500 * time.Millisecond)
	if now := size(); now != before {
		t.Errorf("%d bytes were written though nothing has changed", now-before)
	}
	ask := l.Asking(func(context.Context, rollout.Question) (rollout.Answer, error) {
		l.Tell(engine.Event{Kind: engine.EventPrint, Node: "web-0", Text: "meanwhile"})
		if s := shows(); !slices.Equal(s.lines(), []string{"wave 1 of 1: web-0"}) {
			t.Errorf("while somebody is asked there stands %q", s.lines())
		}
		return rollout.All, nil
	})
	if a, err := ask(t.Context(), rollout.Question{}); a != rollout.All || err != nil {
		t.Errorf("%v, %v", a, err)
	}
	until("meanwhile")
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			node := fmt.Sprintf("web-%d", i)
			for _, e := range []engine.Event{
				{Kind: engine.EventNode, State: engine.NodeApplying}, {Kind: engine.EventPrint, Text: "hello"}, {Kind: engine.EventChange, Op: "o"}, {Kind: engine.EventNode, State: engine.NodeDone},
			} {
				e.Node, e.Time = node, time.Now()
				l.Tell(e)
				time.Sleep(time.Duration(i) * time.Millisecond)
			}
		})
	}
	all.Wait()
	l.Tell(engine.Event{Kind: engine.EventEnd, Text: "r: 100 done"})
	l.Close()
	got := shows().lines()
	if len(got) != 104 || got[0] != "wave 1 of 1: web-0" || got[1] != "web-0 | meanwhile" || got[102] != "r: 100 done" {
		t.Errorf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
	}
	for i := range 100 {
		if !slices.Contains(got, fmt.Sprintf("web-%d | hello", i)) {
			t.Errorf("what web-%d printed is not there", i)
		}
	}
}
