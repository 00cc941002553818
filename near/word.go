package near

// Word returns the word of words that differs least from word, or "" where all differ by more than most letters. Two
// letters in each other's place count as one. Among equally near words the first wins.
func Word(word string, words []string, most int) string {
	best, least := "", most+1
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

// distance counts the letters to insert, delete, replace, or swap with the next to get from a to b (Damerau's distance,
// in which a swapped pair is not changed again).
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, next[j]+1, row[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
