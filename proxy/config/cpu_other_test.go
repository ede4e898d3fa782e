//go:build !unix

package config_test

import (
	"testing"
	"time"
)

var begun = time.Now()

// spent is the time that has passed.
func spent(*testing.T) time.Duration { return time.Since(begun) }
