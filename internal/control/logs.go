package control

import (
	"context"

	"github.com/helve-serve/helve/helvetype"
)

// Logs gives lines to yield, the oldest first, until there are no more, ctx ends, or yield returns an error, which Logs returns.
func (o *Operator) Logs(context.Context, helvetype.LogQuery, func(line *helvetype.LogLine, missed uint64) error) error {
	return unimplemented("logs")
}
