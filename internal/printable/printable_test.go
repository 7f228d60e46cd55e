package printable

import "testing"

func TestText(t *testing.T) {
	for _, c := range []struct{ text, keep, want string }{
		{"plain, é, 日", "", "plain, é, 日"},
		{"a\tb\nc", "\t", "a\tb\\x0ac"},
		{"a\tb\nc", "\t\n", "a\tb\nc"},
		{"\x1b[2J\r\u202e\u200b\x7f", "\t\n", `\x1b[2J\x0d\u202e\u200b\x7f`},
		{"\u009b31m\U000e0041 \ufffd", "", `\u009b31m\U000e0041 �`},
		{"a\x9b31m\xff é", "", `a\x9b31m\xff é`}, // which a terminal that is not UTF-8 obeys
	} {
		if got := Text(c.text, c.keep); got != c.want {
			t.Errorf("%q, keeping %q, is %q, want %q", c.text, c.keep, got, c.want)
		}
	}
}
