package call

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/helve-serve/helve/helvetype"
)

type slow struct{ until chan struct{} }

func (s slow) Error() string   { <-s.until; return "slow" }
func (s slow) Is(error) bool   { <-s.until; return true }
func (s slow) Unwrap() []error { <-s.until; return nil }

// TestMethodsThatDoNotReturnAreLeft: their caller goes on after a second, on the bubble's clock.
func TestMethodsThatDoNotReturnAreLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := slow{make(chan struct{})}
		e := AsError(fmt.Errorf("above: %w", errors.Join(errors.New("beside"), (error)(quick{s}))))
		if !strings.HasPrefix(e.Message, "above: ") {
			t.Errorf("%q", e.Message)
		}
		if errors.Is(e, context.Canceled) {
			t.Error("it is what it has not said to be")
		}
		if text := TextOf(s); !strings.Contains(text, "call.slow") {
			t.Errorf("%q", text)
		}
		close(s.until)
	})
}

// quick is slow only when it is asked what it is.
type quick struct{ slow }

func (quick) Error() string { return "quick" }

// TestGuardKeepsWhatIsPlain: errors of the standard library are not changed; of other errors the guard keeps text and identity.
func TestGuardKeepsWhatIsPlain(t *testing.T) {
	t.Parallel()
	one := errors.New("one")
	for _, err := range []error{one, fmt.Errorf("two: %w", one), errors.Join(one, one), context.DeadlineExceeded, NewError(helvetype.ReasonUser, "three")} {
		if got := Guard(err); got != err { //nolint:errorlint // identity
			t.Errorf("%v became a %T", err, got)
		}
	}
	own := &panicking{7}
	got := Guard(fmt.Errorf("four: %w", own))
	if p, ok := errors.AsType[*panicking](got); got.Error() != "four: seven" || !ok || p != own || !errors.Is(got, own) {
		t.Errorf("%v", got)
	}
}

type panicking struct{ n int }

func (p *panicking) Error() string   { return map[int]string{7: "seven"}[p.n] }
func (p *panicking) Is(e error) bool { panic("Is") }
