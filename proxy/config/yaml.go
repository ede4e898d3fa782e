package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// parseYAML parses one document. The node is nil when there is nothing but comments.
func parseYAML(src *source) (*yaml.Node, *Fault) {
	if f := checkText(src); f != nil {
		return nil, f
	}
	dec := yaml.NewDecoder(strings.NewReader(src.text))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, syntaxFault(src, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, secondDocument(src, &second)
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxFault(src, err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" && root.Style&yaml.TaggedStyle == 0 {
		return nil, nil
	}
	return root, nil
}

// checkText refuses bytes that YAML does not allow (YAML 1.1, 5.1), because the parser does not say where they are.
func checkText(src *source) *Fault {
	text := src.text
	for i, r := range text {
		var message, fix string
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			message, fix = fmt.Sprintf("not UTF-8 text: byte 0x%02x", text[i]), "save the file as UTF-8"
		case r == '\t' || r == '\n' || r == '\r' || r == 0x85:
			continue
		case r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			message, fix = fmt.Sprintf("the character U+%04X is not allowed in YAML", r), `remove it, or write it as \u escape in a "quoted" string`
		default:
			continue
		}
		at := src.locate(i)
		at.width = 1
		f := at.fault("", message).WithFix(fix)
		f.Source, f.Before = printable(f.Source), printable(f.Before)
		return f
	}
	return nil
}

// printable replaces what a terminal could stumble over.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < 0x20 || 0x7f <= r && r < 0xa0) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// locate turns a byte offset into line and column.
func (s *source) locate(offset int) span {
	before := splitLines(s.text[:offset])
	last := before[len(before)-1]
	return span{file: s, line: len(before), column: utf8.RuneCountInString(last) + 1}
}

func secondDocument(src *source, second *yaml.Node) *Fault {
	at := span{file: src, line: max(1, second.Line), column: 1, width: 3}
	for n := at.line; n > 0; n-- {
		if strings.HasPrefix(src.line(n), "---") {
			at.line = n
			break
		}
	}
	return at.fault("", "a second document in one file").
		WithFix("remove the line `---` and what repeats, or put the parts into files of one folder")
}

// yamlProblem splits an error of the YAML package. Its line is that of the beginning of the construct that failed, or one
// less.
var yamlProblem = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxFault finds where the parser stumbled. The parser reads ahead by little, so the shortest beginning of the text that
// fails in the same words ends there.
func syntaxFault(src *source, err error) *Fault {
	problem, named := err.Error(), 1
	if m := yamlProblem.FindStringSubmatch(problem); m != nil {
		problem = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			named = n
		}
	}
	ends := src.ends()
	failsSame := func(line int) bool {
		dec := yaml.NewDecoder(strings.NewReader(src.text[:ends[line-1]]))
		for {
			var n yaml.Node
			if got := dec.Decode(&n); got != nil {
				return got.Error() == err.Error()
			}
		}
	}
	low := max(1, min(named-1, len(ends)))
	high, step := low, 1
	for high < len(ends) && !failsSame(high) {
		low = high + 1
		high = min(high+step, len(ends))
		step *= 2
	}
	line := low + sort.Search(high-low, func(i int) bool { return failsSame(low + i) })
	at := span{file: src, line: line, column: 1}
	text := src.line(line)
	indent := len(text) - len(strings.TrimLeft(text, " \t"))
	if tab := strings.IndexByte(text[:indent], '\t'); tab >= 0 {
		at.column, at.width = tab+1, 1
		return at.fault("", "a tab in the indentation").WithFix("indent with spaces")
	}
	message, fix := explain(problem, text)
	at.column = indent + 1
	at.width = max(1, utf8.RuneCountInString(strings.TrimRight(text[indent:], " \t")))
	return at.fault("", message).WithFix(fix)
}

// ends are the offsets at which the lines end, line ends included.
func (s *source) ends() []int {
	out := make([]int, 0, len(s.lines))
	end := 0
	for _, l := range s.lines {
		end += len(l)
		if strings.HasPrefix(s.text[end:], "\r\n") {
			end += 2
		} else if end < len(s.text) {
			_, size := utf8.DecodeRuneInString(s.text[end:])
			end += size
		}
		out = append(out, end)
	}
	return out
}

// explain says in the words of people what the YAML package says in those of its grammar.
func explain(problem, line string) (message, fix string) {
	message = "this is not YAML: " + problem
	switch trimmed := strings.TrimSpace(line); {
	case strings.Contains(trimmed, "${") && strings.ContainsAny(trimmed[:strings.Index(trimmed, "${")], "{["):
		return "this is not YAML: ${...} inside { } or [ ] is read as braces", `quote it: "${NAME}"`
	case strings.HasPrefix(problem, "unknown anchor"):
		return problem, "define it with & before it is used with *, or quote the value"
	case strings.HasPrefix(problem, "mapping values are not allowed"):
		return "a key where none may stand", `indent the line like its neighbours, or quote the value if the ": " belongs to it`
	case strings.HasPrefix(problem, "found character that cannot start any token"):
		for _, c := range []string{"@", "`", "%"} {
			if strings.Contains(line, ": "+c) || strings.Contains(line, "- "+c) {
				return "a value cannot begin with " + c, "quote the value"
			}
		}
		return message, "quote the value: it begins with a character that has a meaning in YAML"
	case strings.HasPrefix(problem, "could not find expected ':'"):
		return "a key without its colon", "write `key: value`, or indent the line like its neighbours"
	case strings.HasPrefix(problem, "did not find expected '-' indicator"), strings.HasPrefix(problem, "did not find expected key"):
		return "this line does not belong to what is around it", "indent it like its neighbours, and close what is open before it (quotes, brackets)"
	case strings.Contains(problem, "unexpected end of stream"):
		return "a quote that is not closed", "close it"
	case strings.HasPrefix(problem, "did not find expected ',' or"):
		return "a bracket that is not closed, or a comma that is missing", "close it, or quote the value"
	case strings.HasPrefix(problem, "exceeded max depth"):
		return "nested too deep", "a document has a few levels only"
	}
	return message, "check the indentation, quotes and brackets here and in the lines before"
}

// spanOf is where a node stands; scalars are underlined whole, everything else at its first character.
func spanOf(src *source, n *yaml.Node) span {
	at := span{file: src, line: n.Line, column: n.Column, width: 1}
	if n.Kind != yaml.ScalarNode {
		return at
	}
	rest := src.from(n.Line, n.Column)
	switch {
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `'`):
		at.width = utf8.RuneCountInString(rest[:quotedLen(rest)])
	case n.Value != "" && strings.HasPrefix(rest, n.Value):
		at.width = utf8.RuneCountInString(n.Value)
	}
	return at
}

// quotedLen is the length in bytes of the quoted scalar that s begins with, or of s when it goes on in the next line.
func quotedLen(s string) int {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote == '"':
			i++
		case s[i] == quote && quote == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return len(s)
}

// shape names what a node is, for faults. A scalar from ${...} is never shown.
func shape(n *yaml.Node, secret bool) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
	default:
		return "nothing"
	}
	if secret {
		return mask
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "the boolean " + n.Value
	case "!!int", "!!float":
		return "the number " + n.Value
	}
	return strconv.Quote(abridge(n.Value))
}

// abridge keeps messages short, whatever was written.
func abridge(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
