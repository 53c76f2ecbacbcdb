//go:build !race

package wire

func raceWrite() {}
func raceRead()  {}
