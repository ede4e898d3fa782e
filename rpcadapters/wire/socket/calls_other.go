//go:build !unix

package socket

import "errors"

const supported = false

func read(uintptr, []byte) (n int, again bool, err error) { return 0, false, errors.ErrUnsupported }

func write(uintptr, []byte) (n int, again bool, err error) { return 0, false, errors.ErrUnsupported }
