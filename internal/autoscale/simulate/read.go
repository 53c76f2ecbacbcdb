package simulate

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Columns of files of loads.
const (
	columnTime     = "time_s"
	columnRate     = "calls_per_s"
	columnCallers  = "callers"
	columnArrival  = "arrival_s"
	columnDuration = "duration_s"
)

// Limits of a load that is read.
const (
	MaxCalls   = 5_000_000
	MaxCallers = 10_000
	MaxLength  = 31 * 24 * 3600 // seconds
)

// Mistake is a mistake of a file of a load.
type Mistake struct {
	Line, Column int // from 1; Column is the number of the field, 0 for the whole line
	Text         string
}

// Error has the place in front.
func (m *Mistake) Error() string {
	if m.Column == 0 {
		return fmt.Sprintf("line %d: %s", m.Line, m.Text)
	}
	return fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, m.Text)
}

// Read reads a load as CSV: a line with the names of its columns, and a line for each row. Empty lines and lines that begin with # are passed over. There are two forms.
//
// With the columns time_s and calls_per_s a row is a rate that holds until the time of the next row. The last row holds as long as the row before it, or a minute
// where it is alone. The calls of a row arrive by chance, with the mean duration of the optional column duration_s, else the given one; each lasts from half to one
// and a half of it. For example, 60 calls a second from the second minute on:
//
//	time_s,calls_per_s,duration_s
//	0,2,0.2
//	60,60,0.2
//	300,2,0.2
//
// With callers in place of calls_per_s a row is a number of callers that send one call after another, each when the answer to the one before is there. With the columns
// arrival_s and duration_s a row is one call. Times are in seconds, and do not fall. The same text, duration and seed give the same load. The error is
// a [Mistake], or one of the reader.
func Read(r io.Reader, duration float64, seed uint64) (Load, error) {
	f := file{duration: duration, random: rand.New(rand.NewPCG(seed, 11))} //nolint:gosec // a simulation
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		cells := strings.Split(text, ",")
		err := unquote(n, cells)
		switch {
		case err != nil:
		case f.columns == nil:
			err = f.header(n, cells)
		default:
			err = f.row(n, cells)
		}
		if err != nil {
			return Load{}, err
		}
	}
	if err := lines.Err(); err != nil {
		return Load{}, err
	}
	return f.load()
}

// unquote takes the quotes and spaces around cells away. No cell has a comma inside of quotes: all are numbers and names of columns.
func unquote(n int, cells []string) error {
	for i, cell := range cells {
		cell = strings.TrimSpace(cell)
		inner := strings.TrimSuffix(strings.TrimPrefix(cell, `"`), `"`)
		if len(cell)-len(inner) == 1 || strings.Contains(inner, `"`) {
			return &Mistake{n, i + 1, cell + " has a quote without the other one"}
		}
		cells[i] = inner
	}
	return nil
}

// file is a file of a load as it is read.
type file struct {
	duration float64
	random   *rand.Rand
	columns  []string
	header0  int // line of the header
	last     int // line of the newest row
	rows     []row
}

type row struct {
	at, rate, duration float64
	line               int
}

func (f *file) header(n int, cells []string) error {
	known := []string{columnTime, columnRate, columnCallers, columnArrival, columnDuration}
	for i, name := range cells {
		switch {
		case !slices.Contains(known, name):
			return &Mistake{n, i + 1, fmt.Sprintf("there is no column %q; there are %s and %s or %s, or %s and %s", name, columnTime, columnRate, columnCallers, columnArrival, columnDuration)}
		case slices.Contains(cells[:i], name):
			return &Mistake{n, i + 1, "the column " + name + " is there twice"}
		}
	}
	has := func(name string) bool { return slices.Contains(cells, name) }
	switch {
	case has(columnArrival) && (has(columnTime) || has(columnRate) || has(columnCallers)):
		return &Mistake{n, 0, columnArrival + " is for rows that are calls, " + columnTime + " for rows that are rates or callers: leave one of the two out"}
	case has(columnRate) && has(columnCallers):
		return &Mistake{n, 0, columnRate + " and " + columnCallers + ": leave one of the two out"}
	case has(columnArrival) && !has(columnDuration):
		return &Mistake{n, 0, "the column " + columnDuration + " is missing"}
	case !has(columnArrival) && !has(columnTime):
		return &Mistake{n, 0, "the column " + columnTime + " is missing"}
	case !has(columnArrival) && !has(columnRate) && !has(columnCallers):
		return &Mistake{n, 0, "the column " + columnRate + " or " + columnCallers + " is missing"}
	}
	f.columns, f.header0 = cells, n
	return nil
}

func (f *file) row(n int, cells []string) error {
	if len(cells) != len(f.columns) {
		return &Mistake{n, 0, fmt.Sprintf("has %d fields, and there are %d columns", len(cells), len(f.columns))}
	}
	r := row{duration: f.duration, line: n}
	for i, name := range f.columns {
		x, err := strconv.ParseFloat(cells[i], 64)
		switch {
		case err != nil || math.IsNaN(x) || math.IsInf(x, 0) || x < 0:
			return &Mistake{n, i + 1, fmt.Sprintf("%s must be a number of 0 or more, is %q", name, cells[i])}
		case name == columnDuration && x == 0:
			return &Mistake{n, i + 1, name + " must be above 0"}
		case (name == columnTime || name == columnArrival) && len(f.rows) > 0 && x < f.rows[len(f.rows)-1].at:
			return &Mistake{n, i + 1, fmt.Sprintf("%s is %s, before the row of line %d: times do not fall", name, cells[i], f.last)}
		case name == columnTime && len(f.rows) > 0 && x == f.rows[len(f.rows)-1].at:
			return &Mistake{n, i + 1, fmt.Sprintf("%s is %s, as in line %d: each rate has its own time", name, cells[i], f.last)}
		}
		switch name {
		case columnTime, columnArrival:
			r.at = x
		case columnRate, columnCallers:
			if r.rate = x; name == columnCallers && (x != math.Trunc(x) || x > MaxCallers) {
				return &Mistake{n, i + 1, fmt.Sprintf("%s must be a whole number up to %d, is %q", name, MaxCallers, cells[i])}
			}
		case columnDuration:
			r.duration = x
		}
	}
	if len(f.rows) > 0 && r.at-f.rows[0].at > MaxLength {
		return &Mistake{n, 0, "more than 31 days after the first row"}
	}
	f.last = n
	f.rows = append(f.rows, r)
	if len(f.rows) > MaxCalls {
		return &Mistake{n, 0, fmt.Sprintf("more than %d rows", MaxCalls)}
	}
	return nil
}

// load is the load of the rows, which begins at the time of the first one.
func (f *file) load() (load Load, err error) {
	switch {
	case f.columns == nil:
		return load, &Mistake{1, 0, "is empty: the first line has the names of the columns, such as " + columnTime + "," + columnRate}
	case len(f.rows) == 0:
		return load, &Mistake{f.header0, 0, "there is no row after the names of the columns"}
	}
	begin := f.rows[0].at
	if slices.Contains(f.columns, columnArrival) {
		for _, r := range f.rows {
			load.Calls = append(load.Calls, Call{At: r.at - begin, Duration: r.duration})
			load.Length = max(load.Length, r.at-begin+r.duration)
		}
		load.Length = min(math.Ceil(load.Length+1), MaxLength)
		return load, nil
	}
	callers := slices.Contains(f.columns, columnCallers)
	var active []int // callers of the row, in load.Callers
	for i, r := range f.rows {
		length := 60.0
		if i+1 < len(f.rows) {
			length = f.rows[i+1].at - r.at
		} else if i > 0 {
			length = r.at - f.rows[i-1].at
		}
		if load.Length = r.at - begin + length; callers {
			active = active[:min(len(active), int(r.rate))]
			for _, a := range active {
				load.Callers[a].To = load.Length
			}
			for missing := int(r.rate) - len(active); missing > 0; missing-- { // they come within a second
				active = append(active, len(load.Callers))
				load.Callers = append(load.Callers, Caller{From: r.at - begin + f.random.Float64()*min(1, length), To: load.Length, Duration: r.duration})
			}
			continue
		}
		if float64(len(load.Calls))+r.rate*length > MaxCalls {
			return load, &Mistake{r.line, 0, fmt.Sprintf("up to here the load has more than %d calls: take a shorter time, or lower rates and targets", MaxCalls)}
		}
		for range poisson(f.random, r.rate*length) {
			load.Calls = append(load.Calls, Call{At: r.at - begin + f.random.Float64()*length, Duration: r.duration * (0.5 + f.random.Float64())})
		}
	}
	return load.sorted(), nil
}
