package node

import (
	"bytes"
	"fmt"

	"github.com/CycloneDX/cyclonedx-go"
)

// SBOM returns a CycloneDX 1.6 bill of materials in JSON: all programs with their
// modules as dependencies. tool is Muster's version. The output is deterministic.
func SBOM(r Report, tool string) ([]byte, error) {
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Tools: &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{
		{Type: cyclonedx.ComponentTypeApplication, Name: "muster", Version: tool},
	}}}
	components := []cyclonedx.Component{}
	dependencies := []cyclonedx.Dependency{}
	seen := map[string]bool{}
	for _, p := range r.Programs {
		ref := "program:" + p.Path
		components = append(components, cyclonedx.Component{
			BOMRef: ref, Type: cyclonedx.ComponentTypeApplication, Name: p.Package, Version: p.Module.Version,
			Properties: &[]cyclonedx.Property{{Name: "muster:path", Value: p.Path}, {Name: "muster:go", Value: p.Go}},
		})
		var needs []string
		for _, m := range p.Modules {
			purl := "pkg:golang/" + m.Path + "@" + m.Version
			needs = append(needs, purl)
			if !seen[purl] {
				seen[purl] = true
				components = append(components, cyclonedx.Component{
					BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl,
				})
			}
		}
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: ref, Dependencies: &needs})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	var b bytes.Buffer
	enc := cyclonedx.NewBOMEncoder(&b, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := enc.EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("write SBOM: %w", err)
	}
	return b.Bytes(), nil
}
