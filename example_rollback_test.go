package helve_test

import (
	"context"

	"github.com/helve-serve/helve"
)

// A program has an application of a durable node go back to the revision before. The node goes on when the program has ended.
func ExampleSystem_Rollback() {
	ctx := context.Background()
	sys, err := helve.Connect(ctx, "/srv/shop")
	if err != nil {
		return // no node runs there
	}
	defer sys.Close(ctx)
	err = sys.Rollback(ctx, "shop", 0) // 0 is the revision before, 3 is revision 3; helve status shows the present one
	if err != nil {
		panic(err)
	}
}
