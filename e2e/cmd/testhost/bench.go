package main

import (
	"context"

	"boxrun/e2e/testhost"
)

func bench(ctx context.Context, h *testhost.Host, rounds int) error { return nil }
