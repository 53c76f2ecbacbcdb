package series

import "math"

// A number is kept in two bytes, because an hour of a thousand replicas and deployments is some ten million numbers: the lower ten bits are the digits behind a leading 1, and the upper six the
// power of two. So whole numbers up to 2,048 are exact, and others are within 0.05 %. For example, 100,000 is kept as 99,968, which is read as 99,970.
type number uint16

const (
	digits  = 10
	lowest  = -15                // the exponent of the smallest number above 0, as math.Frexp has it: 2^-16, some 15 millionths
	highest = lowest + 61        // numbers below 2^46, some 70 TB
	unknown = number(0xffff)     // no number, as NaN
	largest = number(63<<10) - 1 // the largest number
)

// pack keeps a number that is not negative; NaN and negative numbers are unknown.
func pack(v float64) number {
	if math.IsNaN(v) || v < 0 {
		return unknown
	}
	fraction, exponent := math.Frexp(v) // v is fraction * 2^exponent, and the fraction is 0.5 or more, and below 1
	if v == 0 || exponent < lowest {
		return 0
	}
	whole := int(math.Round(fraction * (2 << digits))) // 1,024 to 2,048
	if whole == 2<<digits {
		whole, exponent = 1<<digits, exponent+1
	}
	if exponent > highest || math.IsInf(v, 0) {
		return largest
	}
	return number((exponent-lowest+1)<<digits | (whole - 1<<digits))
}

// value is the number, rounded to four digits where it is not whole; NaN for an unknown one.
func (n number) value() float64 {
	switch n {
	case unknown:
		return math.NaN()
	case 0:
		return 0
	}
	v := math.Ldexp(float64(1<<digits|n&(1<<digits-1)), int(n>>digits)+lowest-1-digits-1)
	if v == math.Trunc(v) && v <= 2<<digits {
		return v
	}
	return Round(v)
}

// Round rounds a number to four digits. For example, 0.19995 is 0.2, and 123,456 is 123,500.
func Round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	const keep = 4
	shift := keep - 1 - int(math.Floor(math.Log10(math.Abs(v))))
	if shift >= 0 {
		scale := math.Pow10(shift)
		return math.Round(v*scale) / scale
	}
	scale := math.Pow10(-shift)
	return math.Round(v/scale) * scale
}
