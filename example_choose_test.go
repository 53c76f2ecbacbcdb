package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Printer prints on the replica that was chosen.
type Printer struct{}

func (Printer) Print(ctx context.Context, _ string) (string, error) {
	return helve.ReplicaFrom(ctx).ID, nil
}

func buildPrinter() (*helve.App, error) {
	app := helve.NewApp("printer")
	h := helve.Deploy(app, "Printer", func(context.Context) (Printer, error) { return Printer{}, nil }, helve.Options{NumReplicas: new(2)})
	app.Ingress(helve.MethodOf(h, Printer.Print))
	return app, nil
}

// Choose reserves a slot of a replica. The caller can look at the replica before it sends the call there.
func ExampleMethod_Choose() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildPrinter)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[Printer](system, "printer", "Printer")
	if err != nil {
		log.Fatal(err)
	}
	toPrint := helve.MethodOf(h, Printer.Print)

	selection, err := toPrint.Choose(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer selection.Release() // gives the slot back if it was not used
	ranOn, err := toPrint.Dispatch(ctx, selection, "a page").Result(ctx)
	fmt.Println(ranOn == selection.Replica(), err)
	// Output: true <nil>
}
