//go:build !causeway_poison

package http2

func poison([]byte) {}
