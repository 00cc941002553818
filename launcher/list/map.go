package list

// Map returns the results of of for the elements of from, in their order.
func Map[T, U any](from []T, of func(T) U) []U {
	made := make([]U, len(from))
	for i, element := range from {
		made[i] = of(element)
	}
	return made
}
