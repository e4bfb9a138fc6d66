// Reads upstream's discovery documents into the resource table.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type resource struct {
	group, version, plural, kind, singular string
	namespaced                             bool
	verbs, short, categories               []string
	subresources                           []subresource
}

type subresource struct {
	name  string
	kind  groupVersionKind
	verbs []string
}

// readDiscovery returns the resources of stable versions: core first, then the groups in discovery's order.
func readDiscovery(aggregated, core string) []resource {
	var list struct {
		Resources []struct {
			Name, SingularName, Kind, Group, Version string
			Namespaced                               bool
			ShortNames, Categories, Verbs            []string
		}
	}
	content, err := os.ReadFile(core)
	check(err)
	check(json.Unmarshal(content, &list))
	var out []resource
	for _, item := range list.Resources {
		if name, sub, ok := strings.Cut(item.Name, "/"); ok {
			version := item.Version
			if version == "" {
				version = "v1"
			}
			parent := &out[len(out)-1]
			if parent.plural != name {
				panic("subresource without resource: " + item.Name)
			}
			parent.subresources = append(parent.subresources, subresource{sub, groupVersionKind{item.Group, version, item.Kind}, item.Verbs})
			continue
		}
		out = append(out, resource{"", "v1", item.Name, item.Kind, item.SingularName, item.Namespaced, item.Verbs, item.ShortNames, item.Categories, nil})
	}
	var groups struct {
		Items []struct {
			Metadata struct{ Name string }
			Versions []struct {
				Version   string
				Resources []struct {
					Resource, Scope, SingularResource string
					ResponseKind                      groupVersionKind
					Verbs, ShortNames, Categories     []string
					Subresources                      []struct {
						Subresource  string
						ResponseKind groupVersionKind
						Verbs        []string
					}
				}
			}
		}
	}
	content, err = os.ReadFile(aggregated)
	check(err)
	check(json.Unmarshal(content, &groups))
	for _, group := range groups.Items {
		for _, version := range group.Versions {
			if strings.Contains(version.Version, "alpha") || strings.Contains(version.Version, "beta") {
				continue
			}
			for _, item := range version.Resources {
				row := resource{group.Metadata.Name, version.Version, item.Resource, item.ResponseKind.Kind, item.SingularResource, item.Scope == "Namespaced", item.Verbs, item.ShortNames, item.Categories, nil}
				for _, sub := range item.Subresources {
					kind := sub.ResponseKind
					if kind.Version == "" {
						kind.Group, kind.Version = row.group, row.version
					}
					row.subresources = append(row.subresources, subresource{sub.Subresource, kind, sub.Verbs})
				}
				out = append(out, row)
			}
		}
	}
	return out
}

// storage versions that differ from the served one: pkg/apis/autoscaling/install and
// pkg/kubeapiserver/default_storage_factory_builder.go (events of both groups are one resource).
var storage = map[string]string{
	"autoscaling/v1/horizontalpodautoscalers": "autoscaling/v2",
	"events.k8s.io/v1/events":                 "/v1",
}

// selectable are the field labels of AddFieldLabelConversionFunc (pkg/apis/*/v1/conversion.go) with the path into
// the object that the registries' ToSelectableFields read.
var selectable = map[string][]string{
	"/v1/pods": {"spec.nodeName", "spec.host=spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
		"status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"},
	"/v1/nodes":                  {"spec.unschedulable"},
	"/v1/replicationcontrollers": {"status.replicas"},
	"/v1/namespaces":             {"status.phase"},
	"/v1/secrets":                {"type"},
	"/v1/services":               {"spec.clusterIP", "spec.type"},
	"/v1/events": {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
		"involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source=source.component", "type"},
	"events.k8s.io/v1/events": {"regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "regarding.apiVersion",
		"regarding.resourceVersion", "regarding.fieldPath", "reason", "reportingController", "type"},
	"batch/v1/jobs": {"status.successful=status.succeeded"},
	"certificates.k8s.io/v1/certificatesigningrequests": {"spec.signerName"},
	"certificates.k8s.io/v1/clustertrustbundles":        {"spec.signerName"},
	"certificates.k8s.io/v1/podcertificaterequests":     {"spec.signerName", "spec.podName", "spec.nodeName"},
	"resource.k8s.io/v1/resourceslices":                 {"spec.nodeName", "spec.driver", "spec.pool.name"},
}

func (w *world) typeOf(group, version, kind string) string {
	for _, pkg := range w.packages {
		if pkg.group == group && pkg.version == version && pkg.types[kind] != nil && !strings.HasPrefix(pkg.path, "k8s.io/apimachinery") {
			return pkg.prefix + "." + kind
		}
	}
	panic(fmt.Sprintf("no type for %s/%s %s", group, version, kind))
}

func (w *world) resources(rows []resource) string {
	var out strings.Builder
	out.WriteString("# Generated by src/api/generate from api/discovery of k8s.io/kubernetes; do not edit.\n")
	for _, row := range rows {
		id := row.group + "/" + row.version + "/" + row.plural
		fmt.Fprintf(&out, "\nresource %s kind=%s singular=%s", id, row.kind, row.singular)
		if row.namespaced {
			out.WriteString(" namespaced")
		}
		fmt.Fprintf(&out, " type=%s", w.typeOf(row.group, row.version, row.kind))
		if other, ok := storage[id]; ok {
			fmt.Fprintf(&out, " storage=%s", other)
		}
		if len(row.short) > 0 {
			fmt.Fprintf(&out, " short=%s", strings.Join(row.short, ","))
		}
		if len(row.categories) > 0 {
			fmt.Fprintf(&out, " categories=%s", strings.Join(row.categories, ","))
		}
		fmt.Fprintf(&out, "\n  verbs %s\n", strings.Join(row.verbs, ","))
		for _, label := range selectable[id] {
			name, path, found := strings.Cut(label, "=")
			if !found {
				path = name
			}
			fmt.Fprintf(&out, "  select %s %s\n", name, path)
		}
		for _, sub := range row.subresources {
			fmt.Fprintf(&out, "  sub %s %s/%s/%s %s\n", sub.name, sub.kind.Group, sub.kind.Version, sub.kind.Kind, strings.Join(sub.verbs, ","))
		}
	}
	return out.String()
}

// isServed tells whether a package's types go into the binary.
func (w *world) isServed(pkg *goPackage, rows []resource) bool {
	switch pkg.path {
	case "k8s.io/api/admission/v1", "k8s.io/api/apidiscovery/v2":
		return true
	}
	if strings.HasPrefix(pkg.path, "k8s.io/apimachinery") {
		return true
	}
	for _, row := range rows {
		if row.group == pkg.group && row.version == pkg.version {
			return true
		}
	}
	return false
}
