// Command generate writes the tables of src/api/tables from the machine-readable sources of Kubernetes v1.37.2.
//
// Run in this directory: go run . ../tables
package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

func moduleDir(module string) string {
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	check(err)
	return strings.TrimSpace(string(output))
}

func main() {
	if len(os.Args) != 2 {
		os.Stderr.WriteString("usage: go run . DIRECTORY\n")
		os.Exit(2)
	}
	out := os.Args[1]
	kubernetes := moduleDir("k8s.io/kubernetes")
	world := &world{packages: map[string]*goPackage{}, openapi: readOpenAPI(filepath.Join(kubernetes, "api/openapi-spec/v3"))}

	api := moduleDir("k8s.io/api")
	protos, err := filepath.Glob(filepath.Join(api, "*/*/generated.proto"))
	check(err)
	for _, proto := range protos {
		dir := filepath.Dir(proto)
		relative, err := filepath.Rel(api, dir)
		check(err)
		world.add(dir, "k8s.io/api/"+relative, "io.k8s.api."+strings.ReplaceAll(relative, "/", "."))
	}
	machinery := moduleDir("k8s.io/apimachinery")
	for _, dir := range []string{"pkg/apis/meta/v1", "pkg/types", "pkg/runtime", "pkg/api/resource", "pkg/util/intstr", "pkg/watch"} {
		world.add(filepath.Join(machinery, dir), "k8s.io/apimachinery/"+dir, "io.k8s.apimachinery."+strings.ReplaceAll(dir, "/", "."))
	}
	for _, other := range [][2]string{{"k8s.io/apiextensions-apiserver", "pkg/apis/apiextensions/v1"}, {"k8s.io/kube-aggregator", "pkg/apis/apiregistration/v1"}} {
		prefix := "io.k8s." + strings.TrimPrefix(other[0], "k8s.io/") + "." + strings.ReplaceAll(other[1], "/", ".")
		world.add(filepath.Join(moduleDir(other[0]), other[1]), other[0]+"/"+other[1], prefix)
		group := filepath.Join(moduleDir(other[0]), filepath.Dir(other[1]))
		if parent := parsePackage(group, "", ""); parent.group != "" {
			world.packages[other[0]+"/"+other[1]].group = parent.group
		}
	}

	served := readDiscovery(filepath.Join(kubernetes, "api/discovery/aggregated_v2.json"), filepath.Join(kubernetes, "api/discovery/api__v1.json"))
	write(filepath.Join(out, "resources.txt"), world.resources(served))

	paths := make([]string, 0, len(world.packages))
	for path := range world.packages {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	world.reach()
	for _, path := range paths {
		pkg := world.packages[path]
		text := world.table(pkg)
		if text == "" {
			continue
		}
		folder := "unserved"
		if world.isServed(pkg, served) {
			folder = "served"
		}
		write(filepath.Join(out, folder, pkg.prefix+".txt"), text)
	}
	for _, line := range world.differences {
		os.Stderr.WriteString(line + "\n")
	}
}

func write(path, text string) {
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	check(os.WriteFile(path, []byte(text), 0o644))
}
