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
	add("oversized", forged+`.*more than 4 MB in one message`)
	add("cut short", `ended unexpectedly: exit status 0`)
	add("silent", overTime)
	add("closes", forged+`.*nothing more, and lived on`)
	add("exits", `exit status 3`)
	add("deaf", overTime)
	add("large header", forged+`.*a header of 300002 bytes`)
	for text, why := range map[string]string{
		``: `malformed: EOF`, `{`: `unexpected EOF`, `{} {}`: `more than one value`, `[]`: `cannot unmarshal array`, `null`: `a frame of type ""`,
		`1`: `cannot unmarshal number`, `"x"`: `cannot unmarshal string`, "\xff\xfe": `invalid character`, `{"t":1}`: `cannot unmarshal number`,
		`{"t":"done","more":1}`: `unknown field`, `{"t":"dance"}`: `a frame of type "dance"`, `{"t":"\u001b[2J"}`: `a frame of type "\\x1b\[2J"`,
		`{"t":"run"}`: `a frame of type "run"`, `{"t":"start"}`: `a frame of type "start"`, `{"t":"answer"}`: `a frame of type "answer"`,
		`{"t":"done"}`: `no header`, `{"t":"done","run":7}`: `not going on`, `{"t":"done","run":-1}`: `not going on`,
		`{"t":"done","run":99999999999999999999}`: `cannot unmarshal number`, `{"t":"done","header":[]}`: `cannot unmarshal array`,
		`{"t":"done","header":{"nope":1}}`: `unknown field`, `{"t":"done","header":{"limits":{"nodes":{"value":0}}}}`: `nodes must be at least 1`,
		`{"t":"done","header":{"limits":{"memory":{"value":99999999999999}}}}`: `memory must be at most 8GB`,
		`{"t":"done","header":{"limits":{"steps":{"value":-1}}}}`:              `steps must be at least 1`,
		`{"t":"done","header":{"limits":{"duration":{"value":1}}}}`:            `duration`,
		`{"t":"done","header":{"limits":{"many":{"value":1}}}}`:                `no limit "many"`,
		`{"t":"done","header":{"params":[{"name":"../x"}]}}`:                   `"../x" is not a name`,
		`{"t":"done","header":{"params":[{"name":"a","type":"shell"}]}}`:       `shell`,
		`{"t":"done","header":{"rollout":{"waves":["x"]}}}`:                    `wave "x"`,
		`{"t":"done","header":{"rollout":{"waves":["1"],"bake":"-1h"}}}`:       `bake`,
		`{"t":"done","header":{"rollout":{"waves":["1"],"max_failures":-1}}}`:  `max_failures`,
		`{"t":"call","name":"facts","value":{}}`:                               `"call" while loading`, `{"t":"sleep","delay":"1s"}`: `"sleep" while loading`,
		`{"t":"at","reached":{"x":[1]}}`: `lines that nobody counts`, `{"t":"done","steps":1e400}`: `cannot unmarshal number`,
		strings.Repeat(`{"header":`, 11_000): `exceeded max depth`, strings.Repeat("[", 60_000): `exceeded max depth`,
	} {
		add("load:"+text, forged+`.*`+why)
	}
	for text, why := range map[string]string{
		`{"t":"load","run":1,"name":"x.star"}`: `"load" in a run`, `{"t":"call","run":1,"name":"rm","value":{}}`: `no operation "rm"`,
		`{"t":"call","run":1,"name":"../facts","value":{}}`: `no operation`, `{"t":"call","run":1,"name":"Facts","value":{}}`: `no operation`,
		`{"t":"call","run":1,"name":"facts"}`: `EOF`, `{"t":"call","run":1,"name":"facts","value":{"x":1}}`: `unknown field`,
		`{"t":"call","run":1,"name":"facts","value":{}{}}`:                                     `malformed`,
		`{"t":"call","run":1,"name":"route.add","value":{"dst":1}}`:                            `cannot unmarshal number`,
		`{"t":"call","run":1,"name":"route.add","value":{"dst":"10.0.0.0/8","via":"fd00::1"}}`: `another family`,
		`{"t":"call","run":1,"name":"kinds.set","value":{"s":"x","i8":1000}}`:                  `cannot unmarshal number`,
		`{"t":"call","run":2,"name":"facts","value":{}}`:                                       `not going on`, `{"t":"call","run":0,"name":"facts","value":{}}`: `not going on`,
		`{"t":"sleep","run":1,"delay":"9000h"}`: `sleep for 9000h`, `{"t":"sleep","run":1,"delay":"-1s"}`: `sleep for -1s`,
		`{"t":"sleep","run":1,"delay":"999999999999999999h"}`: `invalid duration`, `{"t":"done","run":1,"err":{"code":6,"answer":3}}`: `error of call 3, which there was not`,
		`{"t":"done","run":1,"err":{"code":6,"answer":-1}}`: `error of call -1`, `{"t":"done","run":1,"header":{}}`: `a header in the middle of a run`,
		`{"t":"at","run":1,"lines":{"x":[-1]}}`: `lines that nobody counts`, `{"t":"params","run":1}`: `a frame of type "params"`,
		`{"t":"limits","run":1,"limits":{"memory":{"value":1}}}`:          `memory must be at least`,
		`{"t":"limits","run":1,"limits":{"memory":{"value":8589934592}}}`: `a frame of type "limits"`,
	} {
		add("run:"+text, forged+`.*`+why)
	}
	add(`run:{"t":"at","run":1,"pos":"a.star:1:1"}`, overTime)
	add(`run:{"t":"at","run":1,"pos":"\u001b[2J:1:1"}`, `\\x1b\[2J:1:1: web-1: .*`+overTime)
	add(`run:{"t":"at","run":1,"steps":-9223372036854775808}`, overTime)
	add(`run:{"t":"print","run":1,"seq":1,"text":"\u001b]0;x\u0007\u202e\r"}`, overTime) // and then it says nothing
	add(`run:{"t":"done","run":1,"err":{"code":-5,"cause":"\u001b[2Jx"}}`, `\\x1b\[2Jx`)
	add(`run:{"t":"done","run":1,"err":{"code":130,"cause":"x","hint":"\u009b2J","pos":"\r:1:1"}}`, `\\x0d:1:1: web-1: x\n  hint: \\u009b2J`)
	add(`run:{"t":"done","run":1}`+"\n"+`{"t":"done","run":1}`, ``) // the run is over by then
	add("flood:calls", forged+`.*"call" out of turn`)
	add("flood:at", forged)
	add("flood:positions", forged)
	add("flood:zeros", forged)
	add("flood:stderr", overTime)
	add("flood:random", forged)
	add("flood:pieces", overTime)
	add("flood:prints", `more than 20000 times|`+overTime)
	add("flood:lines", forged)
	add("flood:call", forged+`.*arguments of`)
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
	case "calls": // without waiting for an answer
		for say(`{"t":"call","run":1,"seq":1,"name":"facts","value":{}}`) {
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
