package helve_test

import (
	"context"
	"fmt"
	"log"

	"github.com/helve-serve/helve"
)

// Rater gives a score to a text.
type Rater struct{}

func (Rater) Score(_ context.Context, text string) (float64, error) { return float64(len(text)), nil }

// Ballot is the input of a method that takes several values.
type Ballot struct {
	Rule string
	A, B float64
}

// Referee joins two scores.
type Referee struct{}

func (Referee) Decide(_ context.Context, b Ballot) (string, error) {
	return fmt.Sprintf("%s of %v and %v: %v", b.Rule, b.A, b.B, (b.A+b.B)/2), nil
}

func buildVote() (*helve.App, error) {
	app := helve.NewApp("vote")
	rater := helve.Deploy(app, "Rater", func(context.Context) (Rater, error) { return Rater{}, nil }, helve.Options{})
	helve.MethodOf(rater, Rater.Score)
	referee := helve.Deploy(app, "Referee", func(context.Context) (Referee, error) { return Referee{}, nil }, helve.Options{})
	app.Ingress(helve.MethodOf(referee, Referee.Decide))
	return app, nil
}

// Fill puts the results of other calls into fields of an input. The call begins when all of them are there.
func ExampleFill() {
	ctx := context.Background()
	system, err := helve.Run(ctx, buildVote)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close(ctx)
	rater, err := helve.HandleOf[Rater](system, "vote", "Rater")
	if err != nil {
		log.Fatal(err)
	}
	referee, err := helve.HandleOf[Referee](system, "vote", "Referee")
	if err != nil {
		log.Fatal(err)
	}
	score, decide := helve.MethodOf(rater, Rater.Score), helve.MethodOf(referee, Referee.Decide)

	decision := decide.RemoteWith(ctx, Ballot{Rule: "mean"},
		helve.Fill(func(b *Ballot) *float64 { return &b.A }, score.Remote(ctx, "abc")),
		helve.Fill(func(b *Ballot) *float64 { return &b.B }, score.Remote(ctx, "abcde")))
	fmt.Println(decision.Result(ctx))
	// Output: mean of 3 and 5: 4 <nil>
}
