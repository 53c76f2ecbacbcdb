package control

import (
	"context"
	"encoding/json"

	"github.com/helve-serve/helve/helvetype"
)

// Plan says what Apply would do, and changes nothing.
func (o *Operator) Plan(context.Context, helvetype.ApplyRequest) (p helvetype.Plan, err error) {
	return p, unimplemented("plan")
}

// PlanRollback says what Rollback would do. Revision 0 is the one before the present one.
func (o *Operator) PlanRollback(context.Context, string, int) (p helvetype.Plan, err error) {
	return p, unimplemented("plan")
}

// Rollback deploys a former revision again, as a new one. Revision 0 is the one before the present one.
func (o *Operator) Rollback(context.Context, helvetype.Author, string, int, string) (r helvetype.Outcome, err error) {
	return r, unimplemented("rollback")
}

// Patch sets options of the override layer. null clears an override. A generation of 0 is for any.
func (o *Operator) Patch(context.Context, helvetype.Author, string, json.RawMessage, uint64) (r helvetype.Outcome, err error) {
	return r, unimplemented("patch")
}

// History has the revisions of an application that are kept.
func (o *Operator) History(context.Context, string) (h helvetype.History, err error) {
	return h, unimplemented("history")
}

// Config has each option of an application with the source of its value.
func (o *Operator) Config(context.Context, string) (c helvetype.EffectiveConfig, err error) {
	return c, unimplemented("config")
}
