package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

func TestMain(m *testing.M) { helvetest.Main(m, Build) }

func front(t *testing.T, sys *helve.System) helve.Handle[*Front] {
	t.Helper()
	h, err := helve.HandleOf[*Front](sys, "iris", "Front")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAccuracy asks for the flowers that were held out of training, over every runner.
func TestAccuracy(t *testing.T) {
	t.Parallel()
	_, heldOut, err := split()
	if err != nil {
		t.Fatal(err)
	}
	helvetest.Run(t, Build, func(t *testing.T, sys *helve.System) {
		classify := helve.MethodOf(front(t, sys), (*Front).Classify)
		var rs []*helve.Response[Verdict]
		for _, s := range heldOut {
			rs = append(rs, classify.Remote(t.Context(), s.Flower))
		}
		verdicts, err := helve.All(t.Context(), rs...)
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		for i, v := range verdicts {
			if v.Species == heldOut[i].Species.String() {
				right++
			}
		}
		// With this split; others gave 53 to 60.
		if right != 59 || len(heldOut) != 60 {
			t.Errorf("%d of %d are right", right, len(heldOut))
		}
		_, err = classify.Call(t.Context(), Flower{SepalLength: 5, SepalWidth: 3})
		if helve.CodeOf(err) != helve.InvalidArgument || !strings.Contains(err.Error(), "petal_length") {
			t.Errorf("%v", err)
		}
	})
}

func TestRowsAndReset(t *testing.T) {
	t.Parallel()
	helvetest.Run(t, Build, func(t *testing.T, sys *helve.System) {
		h, ctx := front(t, sys), t.Context()
		rows, reset := helve.StreamOf(h, (*Front).Rows), helve.MethodOf(h, (*Front).Reset)
		n, right := 0, 0
		for row, err := range rows.Remote(ctx, irisCSV).All() {
			if err != nil {
				t.Fatal(err)
			}
			if n++; row.Line != n+1 {
				t.Fatalf("row %d is line %d", n, row.Line)
			}
			if row.Truth == row.Species {
				right++
			}
		}
		if n != 150 || right < 140 {
			t.Errorf("%d of %d agree", right, n)
		}
		for _, want := range []ResetOut{{3, 300}, {3, 0}} {
			if got, err := reset.Call(ctx, helve.None{}); err != nil || got != want {
				t.Errorf("%+v, %v, want %+v", got, err, want)
			}
		}
		n = 0
		var last error
		for _, err := range rows.Call(ctx, "5.1,3.5,1.4,0.2\n\n5.1,3.5,x,0.2\n") {
			if last = err; err == nil {
				n++
			}
		}
		if n != 1 || last == nil || !strings.Contains(last.Error(), "line 3: petal_length") {
			t.Errorf("%d rows, then %v", n, last)
		}
	})
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	sys := helvetest.Start(t, helve.Config{}, Build)
	url, _, err := sys.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"sepal_length":6.1,"sepal_width":2.8,"petal_length":4.7,"petal_width":1.2}`: `"species":"versicolor"`,
		`{"sepal_length":6.1,"sepal_width":2.8,"petal_width":1.2}`:                    "petal_length",
		`{"sepal_length":"x"}`: "sepal_length",
	} {
		resp, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if (resp.StatusCode == http.StatusOK) != strings.Contains(want, "versicolor") || !strings.Contains(string(got), want) {
			t.Errorf("%s: %d %s", body, resp.StatusCode, got)
		}
	}
}

func TestRowsProgram(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := rows(context.Background(), strings.NewReader(irisCSV), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 151 || !strings.HasSuffix(lines[150], "of 150 agree with the file; 3 replicas had answered 300 times") {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}
