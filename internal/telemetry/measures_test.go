package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestMeasuresOfModels: at most 100 models of a replica have a series, and one that has left and comes again has its series of before.
func TestMeasuresOfModels(t *testing.T) {
	t.Parallel()
	p := NewProgram("app", "D", "D#001")
	var report string
	p.ReportTo(func(_ uint64, metrics []byte) { report = string(metrics) })
	m := NewModels(p)
	m.Asked()
	for i := range modelsMax + 1 {
		m.Loaded(fmt.Sprint("model", i), time.Second, i+1, i == 3)
	}
	m.Left("model7", modelsMax)
	m.Left(fmt.Sprint("model", modelsMax), modelsMax-1)
	m.Unloaded(time.Second)
	p.Flush()
	if !strings.Contains(report, `"serve_multiplexed_models_load_ahead_counter"`) || strings.Count(report, `"value":1}`)+strings.Count(report, `"value":1,`) == 0 {
		t.Errorf("no model was loaded ahead: %.3000s", report)
	}
	if n := strings.Count(report, `{"values":["model`); n != modelsMax {
		t.Errorf("%d models have a series", n)
	}
	for _, want := range []string{`{"values":["model7","app","D","D#001"],"value":0,`, `{"values":["model8","app","D","D#001"],"value":1,`, `"serve_num_multiplexed_models"`} {
		if !strings.Contains(report, want) {
			t.Errorf("no %s in %.3000s", want, report)
		}
	}
	for _, nothing := range []*Models{NewModels(nil), nil} {
		nothing.Asked()
		nothing.Loaded("a", 0, 1, true)
		nothing.Left("a", 0)
		nothing.Unloaded(0)
	}
	NewBatches(nil, "f").Began(nil, 1, 0)
	NewBatches(nil, "f").Ended(0)
}
