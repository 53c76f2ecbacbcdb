package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

// Explain says why an object is as it is; with a revision that is not 0, what has become of that revision of an application.
func (o *Operator) Explain(context.Context, helvetype.Object, int) (e helvetype.Explanation, err error) {
	return e, unimplemented("why")
}
