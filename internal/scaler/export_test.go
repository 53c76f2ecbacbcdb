package scaler

// Sample is for tests of the numbers that a decision is made from.
var Sample = sample
