package helvetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// leakTime is how long goroutines that are on their way out may take.
const leakTime = 5 * time.Second

// testLabel is the label of goroutines with the name of their test. A goroutine inherits the labels of its creator.
const testLabel = "helvetest"

func label(t testing.TB) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(testLabel, t.Name())))
	t.Cleanup(func() { pprof.SetGoroutineLabels(context.Background()) })
}

// leaks gives the stacks of goroutines that are in Helve's code, when there still are some after a while.
func leaks(patience time.Duration) string {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		var profile bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
			return err.Error()
		}
		var left []string
		for group := range strings.SplitSeq(profile.String(), "\n\n") {
			if l := leak(group); l != "" {
				left = append(left, l)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			return strings.Join(left, "\n\n")
		}
	}
}

// leak reads one group of goroutines of a profile: how many there are, their labels, and the frames of their stack. It gives
// "" if none of the frames is Helve's. The tests of a package of Helve's own have another path: that ends with _test.
func leak(group string) string {
	const module = "github.com/helve-serve/helve"
	var test string
	var frames []string
	ours := false
	for line := range strings.Lines(group) {
		if labels, ok := strings.CutPrefix(line, "# labels: "); ok {
			if _, after, ok := strings.Cut(labels, `"`+testLabel+`":"`); ok {
				test, _, _ = strings.Cut(after, `"`)
			}
		}
		cells := strings.Split(strings.TrimSpace(line), "\t")
		if len(cells) < 4 || cells[0] != "#" {
			continue
		}
		f := strings.TrimSpace(cells[2])
		if strings.HasPrefix(f, module+"/helvetest.leaks+") {
			return "" // this one
		}
		rest, in := strings.CutPrefix(f, module)
		ours = ours || in && (rest[0] == '.' || rest[0] == '/' && !strings.Contains(rest, "_test."))
		frames = append(frames, fmt.Sprintf("\t%s\n\t\t%s", f, strings.TrimSpace(cells[3])))
	}
	if !ours {
		return ""
	}
	n, _, _ := strings.Cut(strings.TrimSpace(group[strings.LastIndex(group[:strings.Index(group, "@")], "\n")+1:]), " ")
	if test == "" {
		test = "a test that started its system by itself"
	}
	return fmt.Sprintf("%s left behind by %s:\n%s", n, test, strings.Join(frames, "\n"))
}
