package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// JSON returns an indented policy document ending in a newline.
func JSON(p Policy) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	return b.Bytes(), nil
}

// Terraform returns HCL that attaches needs to a role as an inline policy. name is the name of the role, of the
// policy and, with invalid characters replaced, of the resources. Comments say who needs each permission and why.
func Terraform(name string, needs []Need) []byte {
	var b bytes.Buffer
	label := labelOf(name)
	fmt.Fprintf(&b, "data \"aws_iam_policy_document\" %q {\n", label)
	for i, n := range needs {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "  # %s: %s\n  statement {\n", n.Caller, n.Why)
		fmt.Fprintf(&b, "    sid       = %s\n", quoteHCL(n.Name))
		fmt.Fprintf(&b, "    effect    = \"Allow\"\n")
		writeList(&b, "actions  ", n.Actions)
		writeList(&b, "resources", n.Resources)
		for _, c := range n.Conditions {
			fmt.Fprintf(&b, "\n    condition {\n      test     = %s\n      variable = %s\n      values   = [%s]\n    }\n",
				quoteHCL(c.Operator), quoteHCL(c.Key), quoteAll(c.Values))
		}
		b.WriteString("  }\n")
	}
	fmt.Fprintf(&b, "}\n\nresource \"aws_iam_role_policy\" %q {\n", label)
	fmt.Fprintf(&b, "  name   = %s\n  role   = %s\n  policy = data.aws_iam_policy_document.%s.json\n}\n", quoteHCL(name), quoteHCL(name), label)
	return b.Bytes()
}

func writeList(b *bytes.Buffer, name string, values []string) {
	if len(values) == 1 {
		fmt.Fprintf(b, "    %s = [%s]\n", name, quoteAll(values))
		return
	}
	fmt.Fprintf(b, "    %s = [\n", name)
	for _, v := range values {
		fmt.Fprintf(b, "      %s,\n", quoteHCL(v))
	}
	b.WriteString("    ]\n")
}

func quoteAll(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quoteHCL(v)
	}
	return strings.Join(quoted, ", ")
}

// quoteHCL quotes a text, escaping ${ and %{.
func quoteHCL(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}

// labelOf turns a name into a valid label.
func labelOf(name string) string {
	label := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	if label == "" || label[0] == '-' || '0' <= label[0] && label[0] <= '9' {
		label = "_" + label
	}
	return label
}
