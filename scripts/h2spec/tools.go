//go:build tools

// Names the program that scripts/h2spec.sh builds, so that go.mod requires it.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
