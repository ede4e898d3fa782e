package rpc

import (
	"math"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestCodeName(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.OK: "OK", codes.Canceled: "CANCELLED", codes.NotFound: "NOT_FOUND", codes.Unauthenticated: "UNAUTHENTICATED",
		17: "UNKNOWN", math.MaxUint32: "UNKNOWN",
	} {
		if got := CodeName(code); got != want {
			t.Errorf("code %d is %q, want %q", uint32(code), got, want)
		}
	}
	// grpc's own decoder knows the names.
	for i := range codeNames {
		var c codes.Code
		if err := c.UnmarshalJSON([]byte(`"` + CodeName(codes.Code(i)) + `"`)); err != nil || int(c) != i {
			t.Errorf("%q is code %d (%v), want %d", codeNames[i], c, err, i)
		}
	}
}
