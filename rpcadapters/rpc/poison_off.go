//go:build !causeway_poison

package rpc

func poison([]byte) {}
