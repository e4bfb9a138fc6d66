// Reads the OpenAPI v3 documents: required fields, list and map types, patch keys and kinds.
package main

import (
	"encoding/json"
	"os"
	"path/filepath"
)

type openapiSchema struct {
	Required   []string                 `json:"required"`
	Properties map[string]openapiSchema `json:"properties"`
	Type       string                   `json:"type"`
	Format     string                   `json:"format"`
	ListType   string                   `json:"x-kubernetes-list-type"`
	ListKeys   []string                 `json:"x-kubernetes-list-map-keys"`
	MapType    string                   `json:"x-kubernetes-map-type"`
	Strategy   string                   `json:"x-kubernetes-patch-strategy"`
	MergeKey   string                   `json:"x-kubernetes-patch-merge-key"`
	Kinds      []groupVersionKind       `json:"x-kubernetes-group-version-kind"`
}

type groupVersionKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

// readOpenAPI merges the schemas of all documents by name.
func readOpenAPI(dir string) map[string]openapiSchema {
	schemas := map[string]openapiSchema{}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	check(err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		check(err)
		var document struct {
			Components struct {
				Schemas map[string]openapiSchema `json:"schemas"`
			} `json:"components"`
		}
		check(json.Unmarshal(content, &document))
		for name, schema := range document.Components.Schemas {
			schemas[name] = schema
		}
	}
	return schemas
}
