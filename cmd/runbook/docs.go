package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/internal/reference"
	"runbook/internal/spell"
)

// docsWidth is how wide the reference is, in characters.
const docsWidth = 80

func docsCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "docs [NAME]",
		Short: "Tell what a runbook can say: its functions, and what nodes and servers can be asked",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return engine.Invalid.Errorf("docs tells of one thing at a time: %q is too much", args[1])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf("--format", format, "text", "json"); err != nil {
				return err
			}
			all, err := reference.All()
			if err != nil {
				return err
			}
			found := all
			if len(args) > 0 {
				if found, err = documented(all, args[0]); err != nil {
					return err
				}
			}
			if format == "json" {
				return listed(printJSON(found))
			}
			var b strings.Builder
			switch {
			case len(found) == 1:
				tellOf(&b, found[0])
			case len(args) > 0:
				index(&b, found)
				fieldsOf(&b, found)
			default:
				index(&b, found)
				b.WriteString("\nrunbook docs NAME tells more, as in: runbook docs route.add, or runbook docs route\n")
			}
			_, err = io.WriteString(os.Stdout, b.String())
			return listed(err)
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	return c
}

// documented is what name means: one function, or all of a domain such as route, and what is returned of one.
func documented(all []reference.Entry, name string) ([]reference.Entry, error) {
	asked, _, _ := strings.Cut(strings.ReplaceAll(name, "(server)", ""), "(")
	asked = strings.TrimPrefix(strings.Trim(asked, ". "), "node.")
	switch first, rest, _ := strings.Cut(asked, "."); { // what is told of with others like it
	case first == "param" && rest != "":
		asked = "param.TYPE"
	case first == "bouncer" && rest == "connect":
		asked = "pg.connect"
	}
	var domain []reference.Entry
	names := []string{"node"}
	for _, e := range all {
		first, rest, _ := strings.Cut(e.Name, ".")
		switch {
		case e.Name == asked && e.Call != "":
			return []reference.Entry{e}, nil
		case first == asked, first == "node" && rest == asked, asked == "node" && strings.HasPrefix(e.Call, "node."):
			domain = append(domain, e)
		}
		if names = append(names, e.Name); !slices.Contains(names, first) {
			names = append(names, first)
		}
	}
	if len(domain) > 0 {
		return domain, nil
	}
	e := &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("there is nothing called %q", name), Hint: "runbook docs lists what there is"}
	if near := spell.Question(spell.Near(asked, names, 3)); asked != "" && near != "" {
		e.Hint = near
	}
	return nil, e
}

// index lists functions, with what they do.
func index(b *strings.Builder, entries []reference.Entry) {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e reference.Entry) bool { return e.Call == "" })
	wide := 0
	for _, e := range entries {
		wide = max(wide, len(called(e)))
	}
	section := ""
	for i, e := range entries {
		if s := sectionOf(e); s != section {
			if i > 0 {
				b.WriteString("\n")
			}
			section = s
			fmt.Fprintf(b, "%s\n", section)
		}
		column(b, "  "+called(e), wide+4, e.Short)
	}
}

// sectionOf is under which title a function is listed.
func sectionOf(e reference.Entry) string {
	domain, _, _ := strings.Cut(e.Name, ".")
	switch {
	case domain == "t":
		return "of a test, in X_test.star beside X.star"
	case !strings.HasPrefix(e.Call, "node.") || domain == "node":
		return "functions of the language"
	case domain == "pg":
		return "of a Postgres server"
	case domain == "bouncer":
		return "of the console of a pgbouncer"
	}
	return "of a node: " + domain
}

// called is how a function is called, without its arguments.
func called(e reference.Entry) string {
	server, rest, of := strings.Cut(e.Call, "(server).")
	if of {
		server += "(server)."
	} else {
		server, rest = "", e.Call
	}
	name, _, _ := strings.Cut(rest, "(")
	return server + name
}

// fieldsOf tells what the fields are of what is returned.
func fieldsOf(b *strings.Builder, entries []reference.Entry) {
	for _, e := range entries {
		if len(e.Fields) > 0 {
			fmt.Fprintf(b, "\nfields of a %s, as these return it\n", e.Name)
			named(b, "  ", e.Fields)
		}
	}
}

// tellOf is all that there is to be told of a function.
func tellOf(b *strings.Builder, e reference.Entry) {
	b.WriteString(reference.Plain(e.Call, docsWidth) + "\n" + reference.Plain("It "+e.Text, docsWidth))
	if len(e.Args) > 0 {
		b.WriteString("\n")
		named(b, "", e.Args)
	}
	if e.Changes {
		what := "It is a change: a dry run shows it, limits count it, and undo takes it back where it can."
		if e.Disrupts {
			what += " It disrupts: limit disruptive counts the nodes that are so at a time."
		}
		b.WriteString("\n" + reference.Plain(what, docsWidth))
	}
}

// named tells of arguments, or fields.
func named(b *strings.Builder, indent string, args []reference.Arg) {
	wide := 0
	for _, a := range args {
		wide = max(wide, len(a.Name))
	}
	for _, a := range args {
		text := a.Wants
		if a.Required {
			text += ", needed"
		}
		if a.Text != "" {
			text += ": " + a.Text
		}
		column(b, indent+a.Name, len(indent)+wide+2, text)
		named(b, indent+"  ", a.Fields)
	}
}

// column writes text beside a name, which has so much room.
func column(b *strings.Builder, name string, room int, text string) {
	for l := range strings.Lines(reference.Plain(text, max(20, docsWidth-room))) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", room, name, l), " \n") + "\n")
		name = ""
	}
}
