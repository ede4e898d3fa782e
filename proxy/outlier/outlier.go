// Package outlier finds the instances of a service that answer worse than the others.
package outlier

// Record is what is known of one instance's calls.
type Record struct{}
