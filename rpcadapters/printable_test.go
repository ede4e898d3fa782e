package rpcadapters_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
)

// TestPrintable tries every byte at every place of values of several lengths, among the lowest and highest that may be.
func TestPrintable(t *testing.T) {
	for _, around := range []string{" ", "~", "a"} {
		for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 63, 64, 65, 75} {
			value := []byte(strings.Repeat(around, n))
			if !rpcadapters.Printable(string(value)) {
				t.Errorf("%q is printable", value)
			}
			for i := range value {
				for b := range 256 {
					value[i] = byte(b)
					if got, want := rpcadapters.Printable(string(value)), b >= ' ' && b <= '~'; got != want {
						t.Errorf("%q: %v, want %v", value, got, want)
					}
				}
				value[i] = around[0]
			}
		}
	}
}

func BenchmarkPrintable(b *testing.B) {
	token := "Bearer " + strings.Repeat("eyJhbGciOi", 30)
	for b.Loop() {
		if !rpcadapters.Printable(token) {
			b.Fatal("want it to be")
		}
	}
}
