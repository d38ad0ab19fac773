package ws

import "strings"

// ListElements returns the elements of a list that may extend over several fields, without
// the white space around them. Empty elements are ignored (RFC 9110 §5.6.1.2).
func ListElements(fields []string) []string {
	var elements []string
	for rest := strings.Join(fields, ","); rest != ""; {
		var element string
		element, rest = cutElement(rest)
		if element = strings.Trim(element, " \t"); element != "" {
			elements = append(elements, element)
		}
	}
	return elements
}

// cutElement cuts s at its first comma that is not in a quoted string (RFC 9110 §5.6.4).
func cutElement(s string) (element, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++
		case !quoted && s[i] == ',':
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
