package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/helve-serve/helve/bench/stat"
)

// The marks in a README between which the generated part stands.
const (
	begin = "<!-- made by make bench-ray ARGS=-report: begin -->\n"
	end   = "<!-- made by make bench-ray ARGS=-report: end -->\n"
)

// reports are the files that are made of the results, each by a function of the results and of the file as it is.
var reports = map[string]func([]figures, []byte) ([]byte, error){readmeFile: insert, frontFile: front, pageFile: page, pictureFile: picture}

// writeReports writes the tables and the picture from the file of results.
func writeReports() error {
	all, err := readFigures(resultsFile)
	if err != nil {
		return err
	}
	for path, content := range reports {
		old, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		text, err := content(all, old)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if bytes.Equal(text, old) {
			continue
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// insert puts the tables between the marks of a page.
func insert(all []figures, old []byte) ([]byte, error) { return between(old, tables(all, "### ")) }

// front puts a table of a few rows between the marks of the README of the repository.
func front(all []figures, old []byte) ([]byte, error) {
	var out strings.Builder
	out.WriteString("| the same Python program on one machine, in turns | Helve | Ray Serve, best | Ray Serve, default |\n|---|---|---|---|\n")
	for _, w := range []struct{ key, metric, title string }{
		{"handle/100 B, 1 in flight", p50, "a call of 100 bytes through a handle, p50"},
		{"handle/100 B, 64 in flight", rate, "64 such calls in flight, a second"},
		{"stream/10 of 1000 items", rate, "10 streams of 1,000 items, items a second"},
		{"http/noop, 64 connections", rate, "HTTP, 64 connections, requests a second"},
		{"start/hello, two deployments", mb, "memory of two deployments"},
	} {
		i := slices.IndexFunc(all, func(f figures) bool { return f.key() == w.key })
		if i < 0 {
			continue
		}
		fmt.Fprintf(&out, "| %s |", w.title)
		for _, system := range []string{helveSystem, rayBest, rayDefault} {
			fmt.Fprintf(&out, " %s |", text(w.metric, all[i].Sides[system][w.metric]))
		}
		out.WriteString("\n")
	}
	return between(old, out.String())
}

// between replaces the text between the marks of a page.
func between(page []byte, text string) ([]byte, error) {
	before, rest, ok1 := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("it has no marks %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return []byte(before + begin + "\n" + text + "\n" + end + after), nil
}

// page is the page of the documentation.
func page(all []figures, _ []byte) ([]byte, error) {
	return []byte(`# Figures

Helve and Ray Serve side by side: the same Python program ([program.py](../bench/ray/program.py), in which a variable switches one import), the same
clients, on one machine, in turns within one run. ` + "`make bench-ray`" + ` repeats it, and makes this page from [its results](../bench/ray/results.jsonl). What each
row does stands in [bench/README.md](../bench/README.md#against-ray-serve), and so do the rows about Go and about the floors of each layer.

![Requests per second of Helve and Ray Serve](pictures/figures.svg)

` + tables(all, "## ")), nil
}

// tables are all tables, with headings of a level.
func tables(all []figures, heading string) string {
	if len(all) == 0 {
		return "No results yet.\n"
	}
	var out strings.Builder
	out.WriteString(conditions(all))
	titles := map[string]string{}
	for _, s := range systems("") {
		titles[s.name] = s.title
	}
	fmt.Fprintf(&out, "\n%sBars\n\n| row | Helve | reference | | ratio | bar | |\n|---|---|---|---|---|---|---|\n", heading)
	byKey := map[string]figures{}
	for _, f := range all {
		byKey[f.key()] = f
	}
	for _, w := range rows() {
		f, ok := byKey[w.key()]
		if !ok {
			continue
		}
		for _, v := range verdicts(w, f, titles) {
			fmt.Fprintf(&out, "| %s: %s | %s | %s | %s | %.3g | %s | %s |\n", label(w), words[v.metric], text(v.metric, v.ours), text(v.metric, v.reference), v.against, v.ratio,
				v.bar, v.word)
		}
	}
	for _, t := range []struct {
		title, group string
		metrics      []string
	}{
		{"Calls through a handle", "handle", []string{rate, p50, p99, cpu}},
		{"Streams through a handle", "stream", []string{rate, p50, p99}},
		{"HTTP", "http", []string{rate, p50, p99, cpu}},
		{"Start and memory", "start", []string{seconds, mb, processes}},
		{"Faults", "fault", []string{whole, failed, refused, slowest}},
	} {
		table(&out, heading+t.title, t.group, t.metrics, all, titles)
	}
	return out.String()
}

// words are the metrics as a table names them.
var words = map[string]string{
	rate: "a second", p50: "p50", p99: "p99", cpu: "CPU of 1,000", mb: "PSS", processes: "processes", seconds: "to the first answer",
	failed: "failed answers", refused: "no answer", slowest: "slowest answer", whole: "whole again after",
}

// notes say of the tables of some groups how their numbers are to be read.
var notes = map[string]string{
	"stream": "The rate is of items; p50 and p99 are of the times to the first item of a stream.",
	"fault": "16 clients in closed loops over HTTP, two replicas of 20 ms of work. *Failed answers* have another status than 200; a request has *no answer* " +
		"if its connection broke or was refused, and is sent again after 5 ms, so the number says for how long.",
	"http":   "CPU is that of the server's processes, without the client.",
	"handle": "One loop in a replica is the client. CPU is that of all processes, the client too.",
}

// table has a row for each workload and metric, and a column for each system.
func table(out *strings.Builder, title, group string, metrics []string, all []figures, titles map[string]string) {
	var mine []figures
	measured := map[string]bool{}
	for _, f := range all {
		if f.Group == group {
			mine = append(mine, f)
			for name := range f.Sides {
				measured[name] = true
			}
		}
	}
	if len(mine) == 0 {
		return
	}
	var columns []string // titles in the order of the systems; a title may stand for several systems, each in rows of its own
	for _, s := range systems("") {
		if measured[s.name] && !slices.Contains(columns, titles[s.name]) {
			columns = append(columns, titles[s.name])
		}
	}
	fmt.Fprintf(out, "\n%s\n\n", title)
	if n := notes[group]; n != "" {
		fmt.Fprintf(out, "%s\n\n", n)
	}
	fmt.Fprintf(out, "| | | %s | machine |\n|---|---|%s---|\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, f := range mine {
		for i, metric := range metrics {
			name, state := "", ""
			if i == 0 {
				name, state = f.Row, busy(f)
			}
			fmt.Fprintf(out, "| %s | %s |", name, words[metric])
			for _, c := range columns {
				fmt.Fprintf(out, " %s |", cell(f, metric, c, titles))
			}
			fmt.Fprintf(out, " %s |\n", state)
		}
	}
}

// cell is the value of the system that has a title.
func cell(f figures, metric, title string, titles map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(f.Sides)) {
		if v, ok := f.Sides[name][metric]; ok && titles[name] == title {
			return text(metric, v)
		}
	}
	return ""
}

// label is a row in the table of bars.
func label(w row) string {
	if w.group == "http" {
		return "HTTP, " + w.name
	}
	return w.group + ", " + w.name
}

// busy says that the machine had no cores to give during a row.
func busy(f figures) string {
	if stat.Busy(f.Cores) {
		return "busy"
	}
	return ""
}

// conditions say when, where and with which versions the rows were measured. Rows of several runs are of several days.
func conditions(all []figures) string {
	distinct := func(f func(figures) string) string {
		var values []string
		for _, one := range all {
			if v := f(one); !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
		slices.Sort(values)
		return strings.Join(values, "; ")
	}
	busyRows := 0
	for _, f := range all {
		if stat.Busy(f.Cores) {
			busyRows++
		}
	}
	return fmt.Sprintf(`Measured on %s; %s; Helve %s. Medians of %s rounds of %s s, in each round once in every system.
Versions: %s. Ray Serve's best configuration is `+"`%s`"+`.
In %d of %d rows the machine had no cores to give: a pure-CPU loop got less than 1.6 of two cores just before or after the row, which is marked *busy*. Such a row
compares the systems in one minute of one machine, and says little about its absolute numbers.
`, distinct(func(f figures) string { return f.Date[:10] }), distinct(func(f figures) string { return f.Machine }),
		distinct(func(f figures) string { return f.Version["helve"] }), distinct(func(f figures) string { return fmt.Sprint(f.Rounds) }),
		distinct(func(f figures) string { return fmt.Sprint(f.Seconds) }),
		distinct(func(f figures) string {
			var all []string
			for _, name := range slices.Sorted(maps.Keys(f.Version)) {
				if name != "helve" {
					all = append(all, name+" "+f.Version[name])
				}
			}
			return strings.Join(all, ", ")
		}), strings.Join(best, " "), busyRows, len(all))
}
