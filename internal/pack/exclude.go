package pack

import (
	"regexp"
	"slices"
	"strings"
)

// Excludes are the patterns of one runtime_env for files that are not packed, with the syntax of .gitignore files. The last pattern that fits decides,
// and a file below a directory that is left out is left out too. For example, with "data/", "*.bin" and "!small.bin" the files data/a.csv and
// models/large.bin are left out, and small.bin is packed.
type Excludes struct{ patterns []pattern }

type pattern struct {
	is      *regexp.Regexp // of a path with slashes, relative to the directory that is packed
	keep    bool           // of a pattern with "!" at its begin
	dirOnly bool           // of a pattern with "/" at its end
}

// NewExcludes reads patterns. Empty ones and comments are no patterns.
func NewExcludes(lines []string) Excludes {
	var x Excludes
	for _, line := range lines {
		if p, ok := newPattern(line); ok {
			x.patterns = append(x.patterns, p)
		}
	}
	return x
}

func newPattern(line string) (p pattern, ok bool) {
	if strings.HasPrefix(line, "#") {
		return p, false
	}
	line = strings.TrimRight(line, " \t\r\n")
	line, p.keep = strings.CutPrefix(line, "!")
	line, p.dirOnly = strings.CutSuffix(line, "/")
	line = strings.TrimPrefix(line, "./") // git has no such paths, and people write them
	if line == "" {
		return p, false
	}
	anchored := strings.Contains(line, "/") // a name alone fits in every directory
	line = strings.TrimPrefix(line, "/")
	text := "^"
	if !anchored {
		text += "(?:.*/)?"
	}
	is, err := regexp.Compile("(?s)" + text + expression(line) + "$")
	p.is = is
	return p, err == nil
}

// expression is the regular expression of a pattern: "*" is any text without a slash, "?" one character, "**" any number of directories, and "\" takes the next
// character as it is.
func expression(glob string) string {
	var out strings.Builder
	for glob != "" {
		switch class, rest := bracket(glob); {
		case strings.HasPrefix(glob, "**/"):
			out.WriteString("(?:.*/)?")
			glob = glob[len("**/"):]
		case strings.HasPrefix(glob, "/**/"):
			out.WriteString("/(?:.*/)?")
			glob = glob[len("/**/"):]
		case strings.HasSuffix(glob, "/**") && len(glob) == len("/**"):
			out.WriteString("/.*")
			glob = ""
		case glob == "**":
			out.WriteString(".*")
			glob = ""
		case glob[0] == '*':
			out.WriteString("[^/]*")
			glob = strings.TrimLeft(glob, "*")
		case glob[0] == '?':
			out.WriteString("[^/]")
			glob = glob[1:]
		case class != "":
			out.WriteString(class)
			glob = rest
		default:
			if glob[0] == '\\' && len(glob) > 1 {
				glob = glob[1:]
			}
			r := []rune(glob)[0]
			out.WriteString(regexp.QuoteMeta(string(r)))
			glob = glob[len(string(r)):]
		}
	}
	return out.String()
}

// bracket is the regular expression of a set of characters at the begin of a pattern, such as [a-z] or [!0-9]; "" if there is none.
func bracket(glob string) (class, rest string) {
	if glob[0] != '[' {
		return "", glob
	}
	body, not := glob[1:], ""
	if strings.HasPrefix(body, "!") || strings.HasPrefix(body, "^") {
		body, not = body[1:], "^/"
	}
	end := strings.IndexByte(body, ']')
	if end <= 0 {
		return "", glob
	}
	class = "[" + not + strings.NewReplacer(`[`, `\[`, `&`, `\&`, `^`, `\^`).Replace(body[:end]) + "]"
	if _, err := regexp.Compile(class); err != nil {
		return "", glob
	}
	return class, body[end+1:]
}

// Match says that a file or directory is left out: its patterns name it, or a directory around it.
func (x Excludes) Match(path string, dir bool) bool {
	for i := range len(path) + 1 {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if x.names(path[:i], dir || i < len(path)) {
			return true
		}
	}
	return false
}

func (x Excludes) names(path string, dir bool) bool {
	for _, p := range slices.Backward(x.patterns) {
		if (dir || !p.dirOnly) && p.is.MatchString(path) {
			return !p.keep
		}
	}
	return false
}

// excluded says that all of the runtime_envs that share a directory leave a file out: a file that one of them wants is packed.
func excluded(all []Excludes, path string, dir bool) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(x Excludes) bool { return !x.Match(path, dir) })
}
