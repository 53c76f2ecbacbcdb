package control

import (
	"errors"
	"fmt"
	"testing"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/deploy"
)

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
