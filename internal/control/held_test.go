package control

import (
	"errors"
	"fmt"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

// TestResumed: the answer to a resume does not say that a rollout goes on which waits at a step.
func TestResumed(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*helvetype.Rollout{
		"the rollout of shop waits at step 1 of 3; helve resume shop again ends the step": {State: "waiting", Step: 1, Steps: 3},
		"the rollout of shop goes on; follow it with helve status -w":                     {State: "going", Step: 2, Steps: 3},
	} {
		if got := resumed("shop", r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := resumed("shop", nil); got != "the rollout of shop goes on; follow it with helve status -w" {
		t.Error(got)
	}
}

// TestHeldBack: options that are refused for a rollout name the commands that end it, and other errors stay.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	e, ok := errors.AsType[*helvetype.OperationError](heldBack(refusal(fmt.Errorf("shop: %w", deploy.ErrRollout)), "shop"))
	if !ok || e.Code != helvetype.CodeFailedPrecondition || e.Next != "helve resume shop and, when its rollout is over, helve set again; or helve rollback shop" {
		t.Errorf("%+v", e)
	}
	if e, _ := errors.AsType[*helvetype.OperationError](heldBack(refusal(fmt.Errorf("shop: %w", deploy.ErrChanged)), "shop")); e == nil || e.Next != "" {
		t.Errorf("%+v", e)
	}
	if err := heldBack(nil, "shop"); err != nil {
		t.Error(err)
	}
}
