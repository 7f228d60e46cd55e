package printable

import "testing"

func TestText(t *testing.T) {
	for _, c := range []struct{ text, keep, want string }{
		{"plain, é, 日", "", "plain, é, 日"},
		{"a\tb\nc", "\t", "a\tb\\x0ac"},
		{"a\tb\nc", "\t\n", "a\tb\nc"},
		{"\x1b[2J\r\u202e\u200b\x7f", "\t\n", `\x1b[2J\x0d\x202e\x200b\x7f`},
	} {
		if got := Text(c.text, c.keep); got != c.want {
			t.Errorf("%q, keeping %q, is %q, want %q", c.text, c.keep, got, c.want)
		}
	}
}
