package script

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bazelbuild/buildtools/build"
	"go.starlark.net/syntax"

	"runbook/engine"
)

// Format returns the text of the file src.Main in buildifier's style. It says what
// it said, and has each of its comments; formatted again it stays as it is.
func Format(ctx context.Context, cfg Config, src engine.Source) (string, error) {
	done, _, err := once(ctx, cfg, src, frame{Type: tFormat})
	return done.Text, err
}

// format is the evaluator's side of [Format].
func (ev *evaluator) format(t *thread, f frame) {
	var done frame
	done.Err = t.guard(func() error {
		shown := newLoader(t, f.Dir, f.Name).shown(f.Name)
		answer, err := t.ask(frame{Type: tLoad, Name: f.Name, Pos: shown})
		if err != nil {
			return invalid(shown, "%s", err)
		}
		done.Text, err = formatText(shown, answer.Text)
		return err
	})
	ev.finish(t, done)
}

// settling is how often a text is formatted until it stays as it is. Once is
// enough, but for comments in odd places.
const settling = 5

// formatText formats text, of the file that people know as shown. buildifier has
// lost comments in odd places, so it is not believed.
func formatText(shown, text string) (string, error) {
	was, err := outline(shown, text) // an error in the words of a run
	if err != nil {
		return "", err
	}
	out := text
	for range settling {
		before := out
		if out, err = formatOnce(shown, before); err != nil {
			return "", err
		}
		if out == before {
			break
		}
	}
	again, err := formatOnce(shown, out)
	now, odd := outline(shown, out)
	if err != nil || odd != nil || again != out || !slices.Equal(was, now) {
		return "", invalid(shown, "the formatter would lose or change something: the file stays as it is")
	}
	return out, nil
}

func formatOnce(shown, text string) (string, error) {
	file, err := build.ParseDefault(shown, []byte(text))
	var bad build.ParseError
	if errors.As(err, &bad) {
		return "", invalid(fmt.Sprintf("%s:%d:%d", shown, bad.Pos.Line, bad.Pos.LineRune), "%s", bad.Message)
	}
	if err != nil {
		return "", err
	}
	return string(build.FormatWithoutRewriting(file)), nil
}

// outline is what a file says, whatever it looks like: its syntax tree with names
// and values, and its comments.
func outline(shown, text string) ([]string, error) {
	f, err := dialect.Parse(shown, text, 0)
	if err != nil {
		return nil, err
	}
	var while *syntax.WhileStmt
	out := comments(text)
	slices.Sort(out) // one may change places with its neighbour
	syntax.Walk(f, func(n syntax.Node) bool {
		out = append(out, fmt.Sprintf("%T", n))
		switch n := n.(type) {
		case *syntax.WhileStmt: // which a run finds only when it looks for what names mean
			while = cmp.Or(while, n)
		case *syntax.Ident:
			out = append(out, n.Name)
		case *syntax.Literal:
			out = append(out, fmt.Sprintf("%v %v", n.Token, n.Value))
		case *syntax.BinaryExpr:
			out = append(out, n.Op.String())
		case *syntax.UnaryExpr:
			out = append(out, n.Op.String())
		case *syntax.AssignStmt:
			out = append(out, n.Op.String())
		case *syntax.BranchStmt:
			out = append(out, n.Token.String())
		}
		return true
	})
	if while != nil {
		return nil, invalid(while.While.String(), "dialect does not support while loops")
	}
	return out, nil
}

// comments are those of a text that is Starlark, without the space at their ends.
func comments(text string) []string {
	var out []string
	for len(text) > 0 {
		quote := text[:1]
		switch quote {
		case "#":
			line, rest, _ := strings.Cut(text, "\n")
			out = append(out, strings.TrimSpace(line))
			text = rest
		case `"`, "'":
			if strings.HasPrefix(text, strings.Repeat(quote, 3)) {
				quote = strings.Repeat(quote, 3)
			}
			text = afterString(text[len(quote):], quote)
		default:
			text = text[1:]
		}
	}
	return out
}

// afterString is what follows the string that text is in, up to the quotes that end it.
func afterString(text, quote string) string {
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, quote):
			return text[len(quote):]
		case text[0] == '\\' && len(text) > 1: // also of a raw string it ends none
			text = text[2:]
		default:
			text = text[1:]
		}
	}
	return ""
}
