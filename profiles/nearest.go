package profiles

// nearest returns the word of words that was probably meant, or "" where none is close enough. At most two letters may
// be wrong, and at most half of the letters. Among equally near words the first wins.
func nearest(word string, words []string) string {
	best, least := "", min(2, len(word)/2)+1
	for _, w := range words {
		if max(len(w)-len(word), len(word)-len(w)) >= least {
			continue // no nearer than least, and w may be as long as the file
		}
		if d := distance(word, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to get from a to b (Levenshtein distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
