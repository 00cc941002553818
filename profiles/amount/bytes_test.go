package amount

import "testing"

// An amount is read as it is written, and written in the largest unit that keeps the number whole.
func TestAmounts(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "0": "", "1": "1", "1024": "1K", "1536K": "1536K", "2048M": "2G", "16T": "16T",
		"1KB": "refused", "-1": "refused", "+1": "refused", "1.5G": "refused", "K": "refused", "8388608T": "refused",
	} {
		b, err := Parse(text)
		got := b.String()
		if err != nil {
			got = "refused"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
