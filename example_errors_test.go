package helve_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// ErrSoldOut is an error that callers compare with errors.Is.
var ErrSoldOut = errors.New("sold out")

// OverLimitError is an error that callers look for with errors.As.
type OverLimitError struct{ Limit int }

func (e *OverLimitError) Error() string { return fmt.Sprintf("at most %d tickets", e.Limit) }

// BoxOffice sells tickets.
type BoxOffice struct{}

func (BoxOffice) Buy(_ context.Context, tickets int) (string, error) {
	switch {
	case tickets > 10:
		return "", fmt.Errorf("buy: %w", &OverLimitError{Limit: 10})
	case tickets > 5:
		return "", fmt.Errorf("buy: %w", ErrSoldOut)
	case tickets < 1:
		return "", helve.Public(helve.InvalidArgument, "the number of tickets must be positive")
	}
	return "enjoy the show", nil
}

func buildBoxOffice() (*helve.App, error) {
	app := helve.NewApp("theatre")
	app.Errors(ErrSoldOut, (*OverLimitError)(nil)) // these keep their identity across processes
	h := helve.Deploy(app, "BoxOffice", func(context.Context) (BoxOffice, error) { return BoxOffice{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(h, BoxOffice.Buy))
	return app, nil
}

// The error of a call wraps the error of the method, and says where the call failed.
func ExampleError() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildBoxOffice)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	h, err := helve.HandleOf[BoxOffice](system, "theatre", "BoxOffice")
	if err != nil {
		log.Fatal(err)
	}
	buy := helve.MethodOf(h, BoxOffice.Buy)

	_, err = buy.Call(ctx, 6)
	fmt.Println(errors.Is(err, ErrSoldOut), err)

	_, err = buy.Call(ctx, 11)
	if over, ok := errors.AsType[*OverLimitError](err); ok {
		fmt.Println("limit", over.Limit)
	}

	_, err = buy.Call(ctx, 0)
	var e *helve.Error
	if errors.As(err, &e) {
		fmt.Println(e.Code(), e.Reason(), e.Deployment(), e.Method(), e.PublicMessage())
	}
	// Output:
	// true theatre/BoxOffice.Buy: buy: sold out
	// limit 10
	// InvalidArgument user BoxOffice Buy the number of tickets must be positive
}
