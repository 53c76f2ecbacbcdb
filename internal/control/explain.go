package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

// Explain says why an object is as it is.
func (o *Operator) Explain(context.Context, helvetype.Object) (e helvetype.Explanation, err error) {
	return e, unimplemented("why")
}
