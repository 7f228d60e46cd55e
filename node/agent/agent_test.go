package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"runbook/engine"
	"runbook/engine/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a node whose answers are its fields.
type fake struct {
	state resource.State
	err   error
	block bool // until ctx ends
	edits chan engine.Edit
}

func (f *fake) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f.state, f.err
}

func (f *fake) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	f.edits <- e
	return f.Read(ctx, e.Query)
}

func (f *fake) Close() error { return nil }

func (f *fake) Confirm(_ context.Context, token string) error {
	if token != "right" {
		return engine.Unreachable.Errorf("the node has put itself back")
	}
	return nil
}

// connect serves n at the other end of a client, until the test ends.
func connect(t *testing.T, n engine.Node) (*Client, <-chan error) {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(context.Background(), far, far, n)
		far.Close()
	}()
	c := NewClient(near, Peer{Name: "web-1", Addr: "192.0.2.1:22"})
	t.Cleanup(func() { c.Close() })
	return c, served
}

func quicker(t *testing.T) {
	p, d := pingEvery, deadAfter
	pingEvery, deadAfter = 50*time.Millisecond, 500*time.Millisecond // a busy machine sleeps for longer than it was told
	t.Cleanup(func() { pingEvery, deadAfter = p, d })
}

func TestStateArrives(t *testing.T) {
	r := resource.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Table: 254, Type: 1, Extra: resource.Raw{8, 0, 11, 0, 5, 0, 0, 0}}
	n := &fake{state: resource.Of(r)}
	c, served := connect(t, n)
	got, err := c.Read(t.Context(), resource.Query{{Kind: resource.KindRoute}})
	if d := resource.Compare(n.state, got); err != nil || len(d) > 0 {
		t.Errorf("%v\n%s", err, d)
	}
	c.Close()
	if err := <-served; err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}

// Empty and nil differ: an empty Before is compared, a nil one is not.
func TestEditArrives(t *testing.T) {
	n := &fake{edits: make(chan engine.Edit, 1)}
	c, _ := connect(t, n)
	for _, before := range []resource.State{nil, {}, {"route 10.0.0.0/8 table 254 metric 0": nil}} {
		got, err := c.Apply(t.Context(), engine.Edit{Before: before, After: before})
		if err != nil || got == nil {
			t.Errorf("%v, %v", got, err)
		}
		e := <-n.edits
		if (e.Before == nil) != (before == nil) || (e.After == nil) != (before == nil) || len(e.Before) != len(before) || len(resource.Compare(e.After, before)) > 0 {
			t.Errorf("Before %v arrives as %v, After as %v", before, e.Before, e.After)
		}
	}
}

func TestConfirmArrives(t *testing.T) {
	c, _ := connect(t, &fake{})
	if err := c.Confirm(t.Context(), "right"); err != nil {
		t.Error(err)
	}
	if err := c.Confirm(t.Context(), "wrong"); err == nil || !strings.Contains(err.Error(), "put itself back") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsKeepTheirTypes(t *testing.T) {
	found := resource.Of(resource.Facts{Hostname: "x"})
	for _, want := range []error{
		&engine.NodeError{Errno: "ENODEV", Words: "no such device"},
		&engine.DriftError{Found: found},
		&engine.DriftError{},
		&engine.Error{Code: engine.Differs, Cause: "c", Left: "l", Hint: "h", Kernel: "k"},
		fmt.Errorf("a bridge: %w", engine.ErrUnpredictable),
		errors.New("other"),
	} {
		c, _ := connect(t, &fake{err: want})
		_, err := c.Read(t.Context(), nil)
		if err == nil || err.Error() != want.Error() || fmt.Sprintf("%T", errors.Unwrap(err)) != fmt.Sprintf("%T", errors.Unwrap(want)) {
			t.Errorf("%#v arrives as %#v", want, err)
		}
		if errors.Is(want, engine.ErrUnpredictable) != errors.Is(err, engine.ErrUnpredictable) {
			t.Errorf("%v is not unpredictable any more", err)
		}
		var drift *engine.DriftError
		if wanted, ok := want.(*engine.DriftError); ok && (!errors.As(err, &drift) || len(drift.Found) != len(wanted.Found)) {
			t.Errorf("%v lost what was found", err)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	c, _ := connect(t, &fake{block: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Read(ctx, nil)
	if !errors.Is(err, context.DeadlineExceeded) || engine.AsError(err).Code != engine.Unreachable {
		t.Errorf("deadline: %#v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Read(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancel: %v", err)
	}
	why := engine.LimitHit.Errorf("enough")
	ctx, stop := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { stop(why) })
	if _, err := c.Read(ctx, nil); !errors.Is(err, why) {
		t.Errorf("cancel with a cause: %v", err)
	}
}

func TestSlowRequestOutlivesPings(t *testing.T) {
	quicker(t)
	c, _ := connect(t, &fake{block: true})
	ctx, cancel := context.WithTimeout(t.Context(), 4*deadAfter)
	defer cancel()
	_, err := c.Read(ctx, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline: the agent is alive", err)
	}
}

func TestSilentAgentIsGivenUp(t *testing.T) {
	quicker(t)
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		b, _ := frame(response{Hello: &hello{Version: Version}})
		far.Write(b)
		io.Copy(io.Discard, far) // takes all, says nothing
	}()
	c := NewClient(near, Peer{Name: "web-1", Addr: "192.0.2.1:22"})
	defer c.Close()
	_, err := c.Read(t.Context(), nil)
	if e := engine.AsError(err); e.Code != engine.Unreachable || e.Node != "web-1" || !strings.Contains(e.Cause, "silent") {
		t.Errorf("%v", err)
	}
}

func TestEndedAgentIsUnreachable(t *testing.T) {
	near, far := net.Pipe()
	c := NewClient(near, Peer{Name: "web-1", Addr: "192.0.2.1:22"})
	defer c.Close()
	go func() {
		var q request
		readFrame(far, &q)
		far.Close()
	}()
	_, err := c.Read(t.Context(), nil)
	if e := engine.AsError(err); e.Code != engine.Unreachable || !strings.Contains(e.Cause, "has ended") {
		t.Errorf("%v", err)
	}
	if _, again := c.Read(t.Context(), nil); again == nil {
		t.Error("a second call on a dead connection succeeds")
	}
}

func TestAgentEndsWithoutController(t *testing.T) {
	quicker(t)
	near, far := net.Pipe()
	go io.Copy(io.Discard, near)
	start := time.Now()
	err := Serve(t.Context(), far, far, &fake{})
	if err == nil || time.Since(start) < deadAfter {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	near.Close()
	far.Close()
}

func TestGarbageIsAnError(t *testing.T) {
	for _, in := range []string{"Welcome to web-1!\n", "\x00\x00\x00\x02{", "\x00\x00\x00\x02{}"} {
		near, far := net.Pipe()
		c := NewClient(near, Peer{Name: "web-1", Addr: "192.0.2.1:22"})
		go func() {
			far.Write([]byte(in))
			far.Close()
		}()
		_, err := c.Read(t.Context(), nil)
		if engine.AsError(err).Code != engine.Unreachable {
			t.Errorf("%q: %v", in, err)
		}
		c.Close()
	}
}

// Nobody waits for the gigabytes that the first letters of a greeting would announce.
func TestGreetingIsNotWaitedFor(t *testing.T) {
	near, far := net.Pipe()
	c := NewClient(near, Peer{Name: "web-1", Addr: "192.0.2.1:22"})
	go far.Write([]byte("Welcome to web-1!\n")) //nolint:errcheck // the connection stays open
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Read(ctx, nil); err == nil || !strings.Contains(err.Error(), `"Welc"`) || ctx.Err() != nil {
		t.Errorf("got %v, want what came in place of a frame", err)
	}
	c.Close()
	far.Close()
}

func TestTooLargeAnswerIsAnError(t *testing.T) {
	n := &fake{state: resource.Of(resource.Facts{Hostname: strings.Repeat("x", maxFrame)})}
	c, _ := connect(t, n)
	if _, err := c.Read(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "ask for less") {
		t.Errorf("%v", err)
	}
	n.state = nil
	if _, err := c.Read(t.Context(), nil); err != nil {
		t.Errorf("the connection did not survive it: %v", err)
	}
}
