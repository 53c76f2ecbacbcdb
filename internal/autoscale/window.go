package autoscale

import (
	"encoding/json"
	"errors"
	"math"
	"time"
)

// leastWidth is the smallest width of a bucket, for look-back periods that are shorter than a sample.
const leastWidth = 10 * time.Millisecond

// window is the load of the last span of time, in buckets of equal width. Older buckets are overwritten.
type window struct {
	width   time.Duration
	newest  int64 // number of the newest bucket: time since 1970 / width
	buckets []bucket
}

// bucket is a part of a window. Time is in seconds, and the areas are sums of calls times seconds.
type bucket struct {
	Time     float64 // seconds that were observed
	Waiting  float64 // area of the calls that waited
	Running  float64 // area of the calls that ran
	Least    float64 // smallest and largest number of calls at one moment
	Most     float64
	Arrived  float64 // calls that came
	Finished float64 // executions that ended
	// While calls wait each replica does as much as it can: the seconds of ready replicas in that time, and the executions that ended.
	FullReady    float64
	FullFinished float64
}

// fit gives the window a span and the number of buckets for it, beside the bucket that has just begun. A change of either empties the window.
func (w *window) fit(span time.Duration, buckets int) {
	if width := max(span/time.Duration(buckets), leastWidth); w.width != width || len(w.buckets) != buckets+1 {
		*w = window{width: width, buckets: make([]bucket, buckets+1)}
	}
}

func (w *window) at(n int64) *bucket { return &w.buckets[n%int64(len(w.buckets))] }

// reach makes bucket n the newest, if it is newer. The buckets between are empty.
func (w *window) reach(n int64) {
	for i := max(w.newest+1, n-int64(len(w.buckets))+1); i <= n; i++ {
		*w.at(i) = bucket{}
	}
	w.newest = max(w.newest, n)
}

// add records that there was a load from one moment to another. What is older than the window is passed over, so that the cost is bounded.
func (w *window) add(from, to time.Time, l Load, ready int) {
	if w.width == 0 {
		return
	}
	if oldest := to.Add(-time.Duration(len(w.buckets)) * w.width); from.Before(oldest) {
		from = oldest
	}
	for from.Before(to) {
		n := from.UnixNano() / int64(w.width)
		end := time.Unix(0, (n+1)*int64(w.width))
		if end.After(to) {
			end = to
		}
		if w.reach(n); n > w.newest-int64(len(w.buckets)) {
			b, dt, total := w.at(n), end.Sub(from).Seconds(), float64(l.Queued+l.Running)
			if b.Time == 0 || total < b.Least {
				b.Least = total
			}
			b.Most = max(b.Most, total)
			b.Time += dt
			b.Waiting += float64(l.Queued) * dt
			b.Running += float64(l.Running) * dt
			if l.Queued > 0 {
				b.FullReady += float64(ready) * dt
			}
		}
		from = end
	}
}

// count records calls that came and executions that ended up to a moment.
func (w *window) count(at time.Time, arrived, finished float64, full bool) {
	if w.width == 0 || arrived == 0 && finished == 0 {
		return
	}
	n := at.UnixNano() / int64(w.width)
	if w.reach(n); n > w.newest-int64(len(w.buckets)) {
		b := w.at(n)
		b.Arrived += arrived
		if b.Finished += finished; full {
			b.FullFinished += finished
		}
	}
}

// sum is all that was seen within the last period. A bucket of which only a part lies in the period counts by that part.
func (w *window) sum(now time.Time, period time.Duration) (out bucket) {
	if w.width == 0 {
		return bucket{}
	}
	width, size, to := int64(w.width), int64(len(w.buckets)), now.UnixNano()
	from := to - int64(period)
	for n := max(from/width, w.newest-size+1, 0); n <= min(to/width, w.newest); n++ {
		b := w.at(n)
		if b.Time == 0 && b.Arrived == 0 && b.Finished == 0 {
			continue
		}
		part := 1.0
		if begin := n * width; begin < from {
			part = 1 - float64(from-begin)/float64(width)
		}
		if out.Time == 0 || b.Least < out.Least {
			out.Least = b.Least
		}
		out.Most = max(out.Most, b.Most)
		out.Time += part * b.Time
		out.Waiting += part * b.Waiting
		out.Running += part * b.Running
		out.Arrived += part * b.Arrived
		out.Finished += part * b.Finished
		out.FullReady += part * b.FullReady
		out.FullFinished += part * b.FullFinished
	}
	return out
}

// total is the mean number of calls over a period of which only a part may have been observed: time without a sample counts as without load.
func (b bucket) total(period time.Duration) float64 {
	if b.Time == 0 {
		return 0
	}
	return (b.Waiting + b.Running) / max(b.Time, period.Seconds())
}

// peaks are the highest numbers of replicas that were needed in each part of the last span.
type peaks struct {
	width  time.Duration
	newest int64
	most   []float64
}

func (p *peaks) fit(span time.Duration, buckets int) {
	width := max(span/time.Duration(buckets), leastWidth)
	if p.width == width && len(p.most) == buckets+1 {
		return
	}
	at, highest := time.Unix(0, p.newest*int64(p.width)), 0.0
	for _, m := range p.most {
		highest = max(highest, m)
	}
	if *p = (peaks{width: width, most: make([]float64, buckets+1)}); highest > 0 {
		p.add(at, highest)
	}
}

func (p *peaks) add(now time.Time, need float64) {
	n := now.UnixNano() / int64(p.width)
	size := int64(len(p.most))
	for i := max(p.newest+1, n-size+1); i <= n; i++ {
		p.most[i%size] = 0
	}
	p.newest = max(p.newest, n)
	if n > p.newest-size {
		p.most[n%size] = max(p.most[n%size], need)
	}
}

// highest is the highest need of the span before now.
func (p *peaks) highest(now time.Time) (most float64) {
	size := int64(len(p.most))
	for n := max(now.UnixNano()/int64(p.width)-size+1, 0); n <= p.newest; n++ {
		if n > p.newest-size {
			most = max(most, p.most[n%size])
		}
	}
	return most
}

// until is when no need of the span is above a number of replicas any more, if no other need is added; zero for now.
func (p *peaks) until(now time.Time, replicas int) time.Time {
	size := int64(len(p.most))
	for n := p.newest; n >= max(now.UnixNano()/int64(p.width)-size+1, p.newest-size+1, 0); n-- {
		if ceil(p.most[n%size]) > replicas {
			return time.Unix(0, (n+size)*int64(p.width))
		}
	}
	return time.Time{}
}

// MarshalJSON writes the buckets as rows of numbers, without the zeros at their ends.
func (w window) MarshalJSON() ([]byte, error) {
	rows := make([][]float64, 0, len(w.buckets))
	for _, b := range w.buckets {
		row := []float64{
			short(b.Time), short(b.Waiting), short(b.Running), b.Least, b.Most, short(b.Arrived), short(b.Finished), short(b.FullReady), short(b.FullFinished),
		}
		for len(row) > 0 && row[len(row)-1] == 0 {
			row = row[:len(row)-1]
		}
		rows = append(rows, row)
	}
	return json.Marshal(windowForm{w.width, w.newest, rows})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (w *window) UnmarshalJSON(raw []byte) error {
	var f windowForm
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	if !sound(f.Width, f.Newest, len(f.Buckets)) {
		return errors.New("no window of an autoscaler")
	}
	*w = window{width: f.Width, newest: f.Newest}
	for _, row := range f.Buckets {
		var r [9]float64
		copy(r[:], row)
		w.buckets = append(w.buckets, bucket{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8]})
	}
	return nil
}

type windowForm struct {
	Width   time.Duration `json:"width"`
	Newest  int64         `json:"newest"`
	Buckets [][]float64   `json:"buckets"`
}

// sound reports whether a window that was read is empty, or can be gone on with.
func sound(width time.Duration, newest int64, buckets int) bool {
	return width == 0 && buckets == 0 || width >= leastWidth && buckets > 0 && newest >= 0 && float64(newest+1)*float64(width) < math.MaxInt64
}

// short is a number with three digits behind the point.
func short(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

// MarshalJSON writes the highest needs as a list.
func (p peaks) MarshalJSON() ([]byte, error) {
	most := make([]float64, len(p.most))
	for i, m := range p.most {
		most[i] = short(m)
	}
	return json.Marshal(peaksForm{p.width, p.newest, most})
}

// UnmarshalJSON reads the form of MarshalJSON.
func (p *peaks) UnmarshalJSON(raw []byte) error {
	var f peaksForm
	if err := json.Unmarshal(raw, &f); err != nil {
		return err
	}
	if !sound(f.Width, f.Newest, len(f.Most)) {
		return errors.New("no window of an autoscaler")
	}
	*p = peaks{f.Width, f.Newest, f.Most}
	return nil
}

type peaksForm struct {
	Width  time.Duration `json:"width"`
	Newest int64         `json:"newest"`
	Most   []float64     `json:"most"`
}
