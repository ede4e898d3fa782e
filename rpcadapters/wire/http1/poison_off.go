//go:build !causeway_poison

package http1

func poison([]byte) {}
