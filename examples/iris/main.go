// Iris classifies flowers by Fisher's measurements: a logistic regression and nearest neighbours, trained in the
// constructors of their deployments, are asked in parallel, and a vote takes both answers while they are still to come.
//
//	go run ./examples/iris
//	curl -H 'Content-Type: application/json' \
//	  -d '{"sepal_length":6.1,"sepal_width":2.8,"petal_length":4.7,"petal_width":1.2}' http://127.0.0.1:8000
//
// A file of rows is streamed through the same application, from a program of its own:
//
//	go run ./examples/iris rows < examples/iris/iris.csv
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/cli"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "rows" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err := rows(ctx, os.Stdin, os.Stdout)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, "iris:", err)
			os.Exit(1)
		}
		return
	}
	cli.Main(cli.App("iris", Build))
}

// rows classifies the file that in has, and says how many verdicts agree with it.
func rows(ctx context.Context, in io.Reader, out io.Writer) error {
	sys, err := helve.Run(ctx, Build)
	if err != nil {
		return err
	}
	defer sys.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing runs any more
	csv, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	front, err := helve.HandleOf[*Front](sys, "iris", "Front")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	known, right := 0, 0
	for row, err := range helve.StreamOf(front, (*Front).Rows).Call(ctx, string(csv)) {
		if err != nil {
			return errors.Join(err, w.Flush()) // the finished rows come before the mistake
		}
		fmt.Fprintf(w, "%d: %s (%.0f %%)", row.Line, row.Species, 100*row.Probability)
		if row.Truth != "" {
			known++
			if row.Truth == row.Species {
				right++
			} else {
				fmt.Fprintf(w, ", the file says %s", row.Truth)
			}
		}
		fmt.Fprintf(w, "\n")
	}
	reset, err := helve.MethodOf(front, (*Front).Reset).Call(ctx, helve.None{})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d of %d agree with the file; %d replicas had answered %d times\n", right, known, reset.Replicas, reset.Flowers)
	return w.Flush()
}
