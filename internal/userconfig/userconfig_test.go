package userconfig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

func config(n int) Config { return Config{Value: json.RawMessage(fmt.Sprint(n)), Number: n} }

// TestTrial: a trial is the next config until a replica takes it, which makes it the target, or refuses it, which ends it.
func TestTrial(t *testing.T) {
	t.Parallel()
	target := Target{Current: config(1)}
	if _, ok := target.Trial(); ok || target.Next().Number != 1 {
		t.Error("there is a trial at first")
	}
	target.Try(config(2))
	if trial, ok := target.Trial(); !ok || trial.Number != 2 || target.Next().Number != 2 || target.Current.Number != 1 {
		t.Errorf("on trial: %+v", target)
	}
	if got := target.Refuse(1); got != OfCurrent || target.Next().Number != 2 {
		t.Errorf("a refusal of the config in use is %d", got)
	}
	if got := target.Refuse(2); got != OfTrial || target.Next().Number != 1 {
		t.Errorf("a refusal of the trial is %d", got)
	}
	if got := target.Refuse(2); got != OfFormer || target.Next().Number != 1 {
		t.Errorf("a second refusal of the trial is %d", got)
	}
	target.Try(config(3))
	target.Accept(target.Next())
	if _, ok := target.Trial(); ok || target.Current.Number != 3 || string(target.Current.Value) != "3" {
		t.Errorf("after a replica took it: %+v", target)
	}
}

// TestTargetWasTaken: after random operations the target is a config that was accepted, never one that was only tried.
func TestTargetWasTaken(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 0))
			target := Target{Current: config(1)}
			accepted, refused := map[int]bool{1: true}, map[int]bool{}
			for n := 2; n < 500; n++ {
				switch rnd.IntN(4) {
				case 0:
					target.Try(config(n))
				case 1:
					c := target.Next()
					target.Accept(c)
					accepted[c.Number] = true
				case 2:
					target.Accept(config(n))
					accepted[n] = true
				default:
					number := 1 + rnd.IntN(n)
					before := target.Next()
					switch was := target.Refuse(number); {
					case was == OfTrial:
						refused[number] = true
						if before.Number != number || accepted[number] {
							t.Fatalf("the refusal of %d ended the trial of %d", number, before.Number)
						}
					case (was == OfCurrent) != (target.Current.Number == number) || target.Next().Number != before.Number:
						t.Fatalf("the refusal of %d is %d, with %d in use", number, was, target.Current.Number)
					}
				}
				if !accepted[target.Current.Number] || refused[target.Next().Number] {
					t.Fatalf("the target is %d, the next %d", target.Current.Number, target.Next().Number)
				}
			}
		})
	}
}

// named is a replica.
type named string

func (n named) ID() string { return string(n) }

// TestRefusals: an error that several replicas give alike is in the text once, and a replica that stops has no say.
func TestRefusals(t *testing.T) {
	t.Parallel()
	bad, other := errors.New("bad"), errors.New("other")
	for name, c := range map[string]struct {
		answers Answers[named]
		says    string
	}{
		"none was asked":       {Answers[named]{}, ""},
		"all took it":          {Answers[named]{"a": {}, "b": {}}, ""},
		"one refused":          {Answers[named]{"a": {}, "b": {Err: bad}}, "replica b: Reconfigure: bad"},
		"two refused alike":    {Answers[named]{"a": {Err: bad}, "b": {}, "c": {Err: bad}}, "2 of 3 replicas: Reconfigure: bad"},
		"in the order of ids":  {Answers[named]{"b": {Err: bad}, "a": {Err: other}}, "replica a: Reconfigure: other\nreplica b: Reconfigure: bad"},
		"the other one stops":  {Answers[named]{"stops": {Err: other}, "b": {Err: bad}}, "replica b: Reconfigure: bad"},
		"the only one stops":   {Answers[named]{"stops": {Err: bad}}, ""},
		"places do not differ": {Answers[named]{"a": {Err: &call.Error{Message: "bad", Replica: "a"}}, "b": {Err: &call.Error{Message: "bad", Replica: "b"}}}, "2 of 2 replicas: Reconfigure: bad ()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.answers.Refusals(func(r named) bool { return r == "stops" })
			if c.says == "" && err != nil || c.says != "" && (err == nil || err.Error() != c.says) {
				t.Error(err)
			}
		})
	}
}

// TestAsk: all replicas are asked at once, and an answer that did not come in time leaves it open whether the replica has the config.
func TestAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := Answers[named]{}
		ctx, cancel := context.WithCancel(t.Context())
		give := map[named]error{
			"takes": nil, "refuses": errors.New("bad"), "late": call.NewError(helvetype.ReasonDeadline, "late"),
			"says it is late": call.AsError(context.DeadlineExceeded),
		}
		begun := time.Now()
		answers.Ask(ctx, []named{"takes", "refuses", "late", "says it is late"}, func(r named) error {
			time.Sleep(time.Second)
			return give[r]
		})
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %s", took)
		}
		answers.Ask(ctx, []named{"given up"}, func(named) error { cancel(); return errors.New("bad") })
		for r, want := range map[named]bool{"takes": true, "refuses": false, "late": true, "says it is late": false, "given up": true} {
			if got, ok := answers[r]; !ok || got.MayHave() != want || got.Unsure != (want && r != "takes") {
				t.Errorf("%s: %+v", r, got)
			}
		}
	})
}
