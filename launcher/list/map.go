package list

// Map returns the results of of for the elements of from, in their order.
func Map[T, U any](from []T, of func(T) U) []U {
	made := make([]U, len(from))
	for i, element := range from {
		made[i] = of(element)
	}
	return made
}

// Concat returns the joined results of of for the elements of from, in their order. Concat stops at the first error.
func Concat[T, U any](from []T, of func(T) ([]U, error)) ([]U, error) {
	var all []U
	for _, element := range from {
		some, err := of(element)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
