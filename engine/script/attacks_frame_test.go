package script

import (
	"encoding/binary"
	"os"
	"strings"
)

// frameAttacks are by an evaluator that somebody has taken over.
func frameAttacks() []attack {
	var out []attack
	add := func(lie, want string) {
		name, _, _ := strings.Cut(lie, "\n")
		out = append(out, attack{name: "frame: " + name[:min(len(name), 36)], lie: lie, want: want})
	}
	add("oversized", `more than 4 MB in one message`)
	add("cut short", `ended unexpectedly`)
	add("silent", overTime)
	add("closes", overTime+`|killed|ended unexpectedly`)
	add("exits", `exit status 3`)
	add("deaf", overTime)
	for _, text := range []string{
		``, `{`, `{} {}`, `[]`, `null`, `1`, `"x"`, "\xff\xfe", `{"t":1}`, `{"t":"done","more":1}`, `{"t":"dance"}`,
		`{"t":"run"}`, `{"t":"start"}`, `{"t":"answer"}`, `{"t":"done"}`, `{"t":"done","run":7}`, `{"t":"done","run":-1}`,
		`{"t":"done","run":99999999999999999999}`, `{"t":"done","header":[]}`, `{"t":"done","header":{"nope":1}}`,
		`{"t":"done","header":{"limits":{"nodes":{"value":0}}}}`, `{"t":"done","header":{"limits":{"memory":{"value":99999999999999}}}}`,
		`{"t":"done","header":{"limits":{"many":{"value":1}}}}`, `{"t":"done","header":{"params":[{"name":"../x"}]}}`,
		`{"t":"done","header":{"rollout":{"waves":["x"]}}}`, `{"t":"call","name":"facts","value":{}}`, `{"t":"sleep","delay":"1s"}`,
		`{"t":"at","reached":{"x":[1]}}`, `{"t":"done","steps":1e400}`, strings.Repeat(`{"header":`, 11_000), strings.Repeat("[", 60_000),
	} {
		add("load:"+text, forged)
	}
	for _, text := range []string{
		`{"t":"load","run":1,"name":"x.star"}`, `{"t":"call","run":1,"name":"rm","value":{}}`, `{"t":"call","run":1,"name":"facts"}`,
		`{"t":"call","run":1,"name":"facts","value":{"x":1}}`, `{"t":"call","run":1,"name":"route.add","value":{"dst":1}}`,
		`{"t":"call","run":1,"name":"route.add","value":{"dst":"10.0.0.0/8","via":"fd00::1"}}`, `{"t":"call","run":2,"name":"facts","value":{}}`,
		`{"t":"call","run":0,"name":"facts","value":{}}`, `{"t":"sleep","run":1,"delay":"9000h"}`, `{"t":"sleep","run":1,"delay":"-1s"}`,
		`{"t":"sleep","run":1,"delay":"999999999999999999h"}`, `{"t":"done","run":1,"err":{"code":6,"answer":3}}`,
		`{"t":"at","run":1,"lines":{"x":[-1]}}`, `{"t":"params","run":1}`, `{"t":"limits","run":1,"limits":{"memory":{"value":1}}}`,
	} {
		add("run:"+text, forged)
	}
	add(`run:{"t":"at","run":1,"pos":"a.star:1:1"}`, overTime)
	add(`run:{"t":"done","run":1,"err":{"code":-5,"cause":"\u001b[2Jx"}}`, `\\x1b\[2Jx`)
	add(`run:{"t":"done","run":1}`+"\n"+`{"t":"done","run":1}`, ``) // the run is over by then
	add("flood:at", forged)
	add("flood:positions", forged)
	add("flood:zeros", forged)
	add("flood:stderr", overTime)
	add("flood:random", forged)
	add("flood:pieces", overTime)
	add("flood:prints", `more than 20000 times|`+overTime)
	add("flood:lines", forged)
	add("flood:call", `.`)
	add("flood:error", `x…`)
	add("flood:header", forged)
	return out
}

// flood writes more to the controller than it should keep.
func flood(what string) {
	say := func(text string) bool {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
		_, err := os.Stdout.Write(append(b, text...))
		return err == nil
	}
	large := func(before, piece, after string) string { // just below the bound of a frame
		return before + strings.Repeat(piece, (maxFrame-1000)/len(piece)) + after
	}
	switch what {
	case "at":
		for say(`{"t":"at","run":1,"pos":"a.star:1:1"}`) {
		}
	case "positions":
		for text := large(`{"t":"at","run":1,"pos":"`, "x", `"}`); say(text); {
		}
	case "zeros":
		os.Stdout.Write(make([]byte, 64<<20))
	case "stderr":
		for b := make([]byte, 64<<10); ; {
			if _, err := os.Stderr.Write(b); err != nil {
				return
			}
		}
	case "random": // a fixed one
		b, x := make([]byte, 1<<20), uint32(1)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		b[0] = 0
		os.Stdout.Write(b)
	case "pieces":
		os.Stdout.Write([]byte{0, 0x3f, 0xff, 0xff}) // and 4 MB never come
	case "prints":
		for say(`{"t":"print","run":1,"seq":1,"text":"x"}`) {
			if _, err := readFrame(os.Stdin); err != nil {
				return
			}
		}
	case "lines":
		say(large(`{"t":"at","run":1,"lines":{"x":[`, "1,", `1]}}`))
	case "call":
		say(large(`{"t":"call","run":1,"seq":1,"name":"echo","value":{"value":[`, "{},", `{}]}}`))
	case "error":
		say(large(`{"t":"done","run":1,"err":{"code":2,"cause":"`, "x", `"}}`))
	case "header":
		say(large(`{"t":"done","run":1,"header":{"params":[`, "{},", `{}]}}`))
	}
}
