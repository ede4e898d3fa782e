package httprule

// Template placeholder
type Template struct{}
