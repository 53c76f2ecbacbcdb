package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/helve-serve/helve/bench/stat"
)

// figures is a row of the file of results: a line of JSON.
type figures struct {
	Group   string                        `json:"group"`
	Row     string                        `json:"row"`
	Date    string                        `json:"date"`
	Machine string                        `json:"machine"`
	Rounds  int                           `json:"rounds"`
	Seconds float64                       `json:"seconds"`
	Cores   float64                       `json:"cores"` // how much of two cores the machine had to give, the lower of before and after the row
	Version map[string]string             `json:"versions"`
	Sides   map[string]map[string]float64 `json:"sides"` // metrics by system
}

func (f figures) key() string { return f.Group + "/" + f.Row }

// readFigures reads a file of results. A file that does not exist has none.
func readFigures(path string) (all []figures, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var f figures
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		all = append(all, f)
	}
	return all, lines.Err()
}

// writeFigures replaces the file of results.
func writeFigures(path string, all []figures) error {
	var out bytes.Buffer
	for _, f := range all {
		line, err := json.Marshal(f)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
	}
	part := path + ".part"
	if err := os.WriteFile(part, out.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// merge puts a row into the results in the place of an older one with its name. The results have the order of the rows; a result of a row that is no longer
// there goes away. For example, a run with -run FastAPI replaces the rows of FastAPI, and keeps all others with their dates.
func merge(all []figures, f figures, order []row) []figures {
	place := map[string]int{}
	for i, r := range order {
		place[r.key()] = i
	}
	all = slices.DeleteFunc(slices.Clone(all), func(old figures) bool {
		_, known := place[old.key()]
		return !known || old.key() == f.key()
	})
	all = append(all, f)
	slices.SortStableFunc(all, func(a, b figures) int { return place[a.key()] - place[b.key()] })
	return all
}

// verdict is a comparison with its numbers.
type verdict struct {
	row             string
	metric          string
	ours, reference float64
	against         string // the title of the reference
	ratio           float64
	bar             stat.Bar
	word            string
}

// verdicts judges a row. A comparison whose sides were not both measured is left out.
func verdicts(w row, f figures, titles map[string]string) (all []verdict) {
	for _, c := range w.bars {
		ours, ok1 := f.Sides[helveSystem][c.metric]
		theirs, ok2 := f.Sides[c.reference][c.metric]
		if !ok1 || !ok2 {
			continue
		}
		v := verdict{row: w.key(), metric: c.metric, ours: ours, reference: theirs + c.slack, against: titles[c.reference], bar: c.bar}
		if c.slack > 0 {
			v.against += fmt.Sprintf(" + %.0f us", c.slack*1e3)
		}
		v.ratio = v.ours / v.reference
		v.word = c.bar.Verdict(v.ratio, stat.Busy(f.Cores))
		all = append(all, v)
	}
	return all
}

// text is a value of a metric as a table has it.
func text(metric string, v float64) string {
	switch metric {
	case rate:
		switch {
		case v >= 1e6:
			return fmt.Sprintf("%.2fM/s", v/1e6)
		case v >= 1e4:
			return fmt.Sprintf("%.1fk/s", v/1e3)
		case v >= 1e3:
			return fmt.Sprintf("%.2fk/s", v/1e3)
		}
		return fmt.Sprintf("%.0f/s", v)
	case p50, p99, slowest:
		if v >= 100 {
			return fmt.Sprintf("%.0f ms", v)
		}
		return fmt.Sprintf("%.3g ms", v)
	case cpu:
		return fmt.Sprintf("%.3g s", v)
	case mb:
		return fmt.Sprintf("%.0f MB", v)
	case seconds, whole:
		return fmt.Sprintf("%.2f s", v)
	}
	return fmt.Sprintf("%.0f", v)
}
