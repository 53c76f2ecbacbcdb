package helvetype

import "fmt"

// Number are the types of the items of an [Array].
type Number interface {
	bool | int8 | int16 | int32 | int64 | int | uint8 | uint16 | uint32 | uint64 | uint | float32 | float64
}

// Array is an array of numbers with any number of dimensions, as numpy has them. It travels between Go and Python as its memory, without a look at
// each item. For example, the Array with the Shape [2 3] and six items in Data is a numpy.ndarray of two rows.
type Array[T Number] struct {
	// Shape has the length of each dimension.
	Shape []int
	// Data has the items, the last dimension first: the item at row i and column j of two dimensions is Data[i*Shape[1]+j].
	Data []T
}

// NewArray makes an array of the items. It panics if the shape is for another number of items.
func NewArray[T Number](data []T, shape ...int) Array[T] {
	a := Array[T]{Shape: shape, Data: data}
	if n, ok := a.Len(); !ok {
		panic(fmt.Sprintf("NewArray: the shape %v is for %d items, there are %d", shape, n, len(data)))
	}
	return a
}

// Len is the number of items that the shape is for; ok says that Data has as many.
func (a Array[T]) Len() (n int, ok bool) {
	n = 1
	for _, d := range a.Shape {
		if d < 0 {
			return 0, false
		}
		n *= d
	}
	return n, n == len(a.Data)
}

// Row is the part of Data at an index of the first dimension. For example, row 1 of an array of shape [2 3] is its items 3 to 5.
func (a Array[T]) Row(i int) []T {
	n := len(a.Data) / a.Shape[0]
	return a.Data[i*n : (i+1)*n : (i+1)*n]
}
