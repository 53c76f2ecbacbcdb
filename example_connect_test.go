package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// askNode is a program of its own: it calls an application that another process serves.
func askNode(ctx context.Context, address string) (string, error) {
	sys, err := helve.Connect(ctx, address) // "" is $HELVE_NODE, else the only node of this user
	if err != nil {
		return "", err
	}
	defer sys.Close(ctx) // the node goes on
	h, err := helve.HandleOf[*Receptionist](sys, "reception", "Receptionist")
	if err != nil {
		return "", err
	}
	return helve.MethodOf(h, (*Receptionist).Greet).Call(ctx, "world")
}

// A program attaches to a node and calls a deployment there. The node of this example is in the same process; as a rule it is another one, such
// as "helve start".
func ExampleConnect() {
	ctx := context.Background()
	node, err := helve.Config{Admin: "private"}.Run(ctx, buildReception)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close(ctx)

	fmt.Println(askNode(ctx, node.Address()))
	// Output: Hello world! <nil>
}
