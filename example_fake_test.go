package helve_test

import (
	"context"
	"fmt"

	"github.com/helve-serve/helve"
)

// Concierge is the code under test. It needs no application: the method that it holds can be a fake.
type Concierge struct{ sayHi helve.Method[string, string] }

func (c *Concierge) Welcome(ctx context.Context, names ...string) ([]string, error) {
	var all []*helve.Response[string]
	for _, name := range names {
		all = append(all, c.sayHi.Remote(ctx, name))
	}
	return helve.All(ctx, all...)
}

// MethodFunc makes a method of a function, for tests of code that calls methods.
func ExampleMethodFunc() {
	fake := helve.MethodFunc(func(_ context.Context, name string) (string, error) { return "hi " + name, nil })
	c := &Concierge{sayHi: fake}
	fmt.Println(c.Welcome(context.Background(), "Ada", "Grace"))
	// Output: [hi Ada hi Grace] <nil>
}
