package say

import (
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0B", 1023: "1023B", 1 << 10: "1.0K", 1023<<10 + 511: "1023K", 1023<<10 + 512: "1.0M", 1 << 20: "1.0M", 10 << 20: "10M",
		5 << 60: "5120P",
	} {
		if got := Bytes(bytes); got != want {
			t.Errorf("%d bytes: got %q, want %q", bytes, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for span, want := range map[time.Duration]string{
		0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 47 * time.Hour: "47h", 48 * time.Hour: "2d",
	} {
		if got := Span(span); got != want {
			t.Errorf("%v: got %q, want %q", span, got, want)
		}
	}
}
