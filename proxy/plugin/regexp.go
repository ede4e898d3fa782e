package plugin

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// maxRegexp bounds a regular expression of a configuration, in bytes, and maxRegexps how many a list may have: what they are
// matched with comes from callers, and the time it takes is the product of both.
const (
	maxRegexp  = 1024
	maxRegexps = 200
)

// Regexps compiles a list of regular expressions (RE2: the time that one takes rises with the length of its input alone)
// that stands at path in a plugin's configuration. fold: case does not matter.
func Regexps(path string, list []string, fold bool) ([]*regexp.Regexp, error) {
	if len(list) > maxRegexps {
		return nil, Faultf(path, "join some of them with |", "wanted at most %d regular expressions, found %d", maxRegexps, len(list))
	}
	out := make([]*regexp.Regexp, len(list))
	for i, text := range list {
		re, err := Regexp(fmt.Sprintf("%s[%d]", path, i), text, fold)
		if err != nil {
			return nil, err
		}
		out[i] = re
	}
	return out, nil
}

// Regexp compiles one regular expression; see Regexps.
func Regexp(path, text string, fold bool) (*regexp.Regexp, error) {
	switch {
	case text == "":
		return nil, Faultf(path, "write a regular expression (RE2), or remove it", "an empty regular expression, which is found everywhere")
	case len(text) > maxRegexp:
		return nil, Faultf(path, "make several of it", "a regular expression of %d bytes, at most %d are taken", len(text), maxRegexp)
	}
	pattern := text
	if fold {
		pattern = "(?i:" + text + ")"
	}
	if _, err := syntax.Parse(text, syntax.Perl); err != nil { // by itself, so that what closes the group is a fault
		return nil, Faultf(path, "write a regular expression as of RE2 (https://github.com/google/re2/wiki/Syntax)", "%q: %s", text, err)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, Faultf(path, "make it smaller", "%q: %s", text, err)
	}
	return re, nil
}

// AnyMatch tells whether one of the expressions is found in s.
func AnyMatch(list []*regexp.Regexp, s string) bool {
	for _, re := range list {
		if re.MatchString(s) {
			return true
		}
	}
	return false
}
