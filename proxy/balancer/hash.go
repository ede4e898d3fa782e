package balancer

// golden is 2^64 divided by the golden ratio: multiples of it are spread evenly over the 64 bits, however many there are.
const golden = 0x9e3779b97f4a7c15

// mix spreads the bits of x over all of the result (the finalizer of SplitMix64). It is a permutation.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashOf is the place of an address (FNV-1a, mixed). It is the same in every process: gateways agree on who takes a key.
func hashOf(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return mix(h)
}
