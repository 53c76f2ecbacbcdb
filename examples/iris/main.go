// Iris serves two classifiers of Fisher's iris flowers.
package main

// main does nothing yet: the application that serves the two models is to come.
func main() {}
