// Turns parsed packages and OpenAPI documents into the rows of the type tables.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"reflect"
	"regexp"
	"sort"
	"strings"
)

type world struct {
	packages    map[string]*goPackage
	openapi     map[string]openapiSchema
	reached     map[*goType]bool
	differences []string
}

func (w *world) add(dir, path, prefix string) {
	w.packages[path] = parsePackage(dir, path, prefix)
}

// special types have a JSON form of their own.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                                             "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                                        "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                                         "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                                         "any",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                                         "quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                                       "intorstring",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                                          "any",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                         "any",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":        "schemaorbool",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":       "schemaorarray",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray": "schemaorstrings",
}

var scalars = map[string]string{"string": "string", "bool": "bool", "int": "int64", "int32": "int32", "int64": "int64", "uint32": "uint32", "uint64": "uint64", "float64": "float64"}

// ref names the type of an expression; named types that are not special come back with their declaration.
func (w *world) ref(from *goType, expr ast.Expr) (string, *goType) {
	switch expr := expr.(type) {
	case *ast.Ident:
		if scalar, ok := scalars[expr.Name]; ok {
			return scalar, nil
		}
		return w.named(from.pkg.path, expr.Name, from)
	case *ast.SelectorExpr:
		alias := expr.X.(*ast.Ident).Name
		return w.named(from.imports[alias], expr.Sel.Name, from)
	case *ast.ArrayType:
		if ident, ok := expr.Elt.(*ast.Ident); ok && ident.Name == "byte" {
			return "bytes", nil
		}
		element, declared := w.ref(from, expr.Elt)
		return "[]" + element, declared
	case *ast.MapType:
		element, declared := w.ref(from, expr.Value)
		return "map:" + element, declared
	case *ast.InterfaceType:
		return "any", nil
	}
	panic(fmt.Sprintf("%s.%s: unexpected %T", from.pkg.path, from.name, expr))
}

func (w *world) named(path, name string, from *goType) (string, *goType) {
	if kind, ok := special[path+"."+name]; ok {
		if strings.HasPrefix(kind, "schema") {
			return kind, w.packages[path].types["JSONSchemaProps"]
		}
		return kind, nil
	}
	pkg := w.packages[path]
	if pkg == nil || pkg.types[name] == nil {
		panic(fmt.Sprintf("%s.%s: unknown type %s.%s", from.pkg.path, from.name, path, name))
	}
	declared := pkg.types[name]
	return pkg.prefix + "." + name, declared
}

// structure follows `type A B` and `type A = B` to the struct that is meant.
func (w *world) structure(typ *goType) *goType {
	for !typ.isStruct {
		switch typ.expr.(type) {
		case *ast.Ident, *ast.SelectorExpr:
			_, declared := w.ref(typ, typ.expr)
			if declared == nil {
				return nil
			}
			typ = declared
		default:
			return nil
		}
	}
	return typ
}

func (w *world) isKind(typ *goType) bool {
	for _, field := range typ.fields {
		if selector, ok := field.expr.(*ast.SelectorExpr); field.inline && ok && selector.Sel.Name == "TypeMeta" {
			return true
		}
		if ident, ok := field.expr.(*ast.Ident); field.inline && ok && ident.Name == "TypeMeta" {
			return true
		}
	}
	return typ.name == "WatchEvent"
}

func (w *world) reach() {
	w.reached = map[*goType]bool{}
	for path, pkg := range w.packages {
		if strings.HasPrefix(path, "k8s.io/apimachinery") && !strings.HasSuffix(path, "meta/v1") {
			continue
		}
		for _, typ := range pkg.types {
			if typ.isStruct && ast.IsExported(typ.name) && w.isKind(typ) && typ.name != "InternalEvent" {
				w.visit(typ)
			}
		}
	}
}

func (w *world) visit(typ *goType) {
	if w.reached[typ] {
		return
	}
	w.reached[typ] = true
	if target := w.structure(typ); target != nil {
		for _, field := range target.fields {
			if _, declared := w.ref(target, field.expr); declared != nil {
				w.visit(declared)
			}
		}
		return
	}
	if _, declared := w.ref(typ, typ.expr); declared != nil {
		w.visit(declared)
	}
}

// shorten drops the prefix of the package that a row stands in.
func shorten(ref, prefix string) string {
	start := 0
	for strings.HasPrefix(ref[start:], "[]") || strings.HasPrefix(ref[start:], "map:") || strings.HasPrefix(ref[start:], "*") {
		switch ref[start] {
		case '[':
			start += 2
		case 'm':
			start += 4
		default:
			start++
		}
	}
	rest := ref[start:]
	if strings.HasPrefix(rest, prefix+".") && !strings.Contains(rest[len(prefix)+1:], ".") {
		rest = "." + rest[len(prefix)+1:]
	}
	return ref[:start] + rest
}

func (w *world) table(pkg *goPackage) string {
	var out strings.Builder
	for _, name := range pkg.order {
		typ := pkg.types[name]
		if w.reached[typ] {
			w.row(&out, typ)
		}
	}
	if out.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("# Generated by src/api/generate from %s; do not edit.\npackage %s %s\n", pkg.path, pkg.prefix, pkg.name) + out.String()
}

func (w *world) row(out *strings.Builder, typ *goType) {
	pkg := typ.pkg
	target := w.structure(typ)
	if target == nil {
		ref, _ := w.ref(typ, typ.expr)
		fmt.Fprintf(out, "\ntype %s %s", typ.name, shorten(ref, pkg.prefix))
		if proto := pkg.protos[typ.name]; proto != nil && proto.numbers["items"] == 1 && len(proto.numbers) == 1 {
			out.WriteString(" wrapped")
		}
		if hasTag(typ.tags, "enum") || hasTag(typ.tags, "k8s:enum") {
			values := []string{}
			for _, value := range pkg.consts[typ.name] {
				values = append(values, w.value(value))
			}
			sort.Strings(values)
			fmt.Fprintf(out, " enum=%s", compact(values))
		}
		out.WriteString("\n")
		rules(out, typ.tags, " ")
		return
	}
	fmt.Fprintf(out, "\ntype %s struct", typ.name)
	schema, documented := w.openapi[pkg.prefix+"."+typ.name]
	atomic := hasTag(typ.tags, "structType=atomic") || hasTag(typ.tags, "mapType=atomic")
	if documented {
		w.compare(typ.name, "", "map type", atomic, schema.MapType == "atomic")
		atomic = schema.MapType == "atomic"
	}
	if atomic {
		out.WriteString(" atomic")
	}
	if w.isKind(target) && strings.Contains(pkg.path, "/pkg/apis/meta/") {
		fmt.Fprintf(out, " gvk=/v1/%s", typ.name)
	} else if w.isKind(target) {
		fmt.Fprintf(out, " gvk=%s/%s/%s", pkg.group, pkg.version, typ.name)
	}
	out.WriteString("\n")
	rules(out, typ.tags, " ")
	message := pkg.protos[typ.name]
	for _, field := range target.fields {
		w.fieldRow(out, typ, target, field, message, schema, documented)
	}
}

func (w *world) fieldRow(out *strings.Builder, typ, target *goType, field *goField, message *protoMessage, schema openapiSchema, documented bool) {
	ref, declared := w.ref(target, field.expr)
	name := field.json
	if field.inline && name == "" {
		name = ".."
	}
	if field.inline && declared == nil {
		panic(typ.name + ": inline field that is no struct")
	}
	number := field.number
	if message != nil && number >= 0 {
		protoName := field.protoName
		if found, ok := message.numbers[protoName]; protoName != "" && (!ok || found != number) {
			w.differences = append(w.differences, fmt.Sprintf("%s.%s: number %d in types.go, %d in generated.proto", typ.name, protoName, number, found))
		}
	}
	if number < 0 {
		number = 0
	}
	if field.pointer {
		ref = "*" + ref
	}
	fmt.Fprintf(out, "  %s %d %s", name, number, shorten(ref, typ.pkg.prefix))
	if field.omitempty {
		out.WriteString(" omitempty")
	}
	if field.omitzero {
		out.WriteString(" omitzero")
	}
	if name == ".." {
		out.WriteString("\n")
		return
	}
	optional := field.omitempty || hasTag(field.tags, "optional") || hasTag(field.tags, "k8s:optional")
	if hasTag(field.tags, "required") || hasTag(field.tags, "k8s:required") {
		optional = false
	}
	listType, mapType := tagValue(field.tags, "listType"), tagValue(field.tags, "mapType")
	if structType := tagValue(field.tags, "structType"); structType != "" {
		mapType = structType
	}
	if listType == "" && declared != nil && strings.HasPrefix(ref, typ.pkg.prefix) {
		listType = tagValue(declared.tags, "listType")
	}
	keys := tagValues(field.tags, "listMapKey")
	required, strategy, mergeKey := !optional, field.patchStrategy, field.patchMergeKey
	if property, ok := schema.Properties[name]; documented && ok {
		documentedRequired := contains(schema.Required, name)
		w.compare(typ.name, name, "required", required, documentedRequired)
		w.compare(typ.name, name, "list type", listType, property.ListType)
		w.compare(typ.name, name, "map type", mapType, property.MapType)
		w.compare(typ.name, name, "list keys", strings.Join(keys, ","), strings.Join(property.ListKeys, ","))
		w.compare(typ.name, name, "patch strategy", strategy, property.Strategy)
		w.compare(typ.name, name, "patch merge key", mergeKey, property.MergeKey)
		required, listType, mapType, keys = documentedRequired, property.ListType, property.MapType, property.ListKeys
		strategy, mergeKey = property.Strategy, property.MergeKey
	} else if documented {
		w.differences = append(w.differences, fmt.Sprintf("%s.%s: not in OpenAPI", typ.name, name))
	}
	if required {
		out.WriteString(" required")
	}
	if listType != "" {
		fmt.Fprintf(out, " list=%s", listType)
	}
	if mapType != "" {
		fmt.Fprintf(out, " map=%s", mapType)
	}
	if len(keys) > 0 {
		fmt.Fprintf(out, " keys=%s", strings.Join(keys, ","))
	}
	if strategy != "" {
		fmt.Fprintf(out, " patch=%s", strategy)
	}
	if mergeKey != "" {
		fmt.Fprintf(out, " patchkey=%s", mergeKey)
	}
	if value := tagValue(field.tags, "default"); value != "" {
		fmt.Fprintf(out, " default=%s", typ.pkg.defaultJSON(value))
	}
	for _, line := range strings.Split(field.doc, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "Deprecated") || strings.HasPrefix(strings.TrimSpace(line), "DEPRECATED") {
			out.WriteString(" deprecated")
			break
		}
	}
	out.WriteString("\n")
	rules(out, field.tags, "    ")
}

// value is that of a constant, wherever it is declared.
func (w *world) value(constant constValue) string {
	if constant.other == "" {
		return constant.value
	}
	for _, pkg := range w.packages {
		for _, values := range pkg.consts {
			for _, value := range values {
				if value.name == constant.other && value.other == "" {
					return value.value
				}
			}
		}
	}
	panic("no constant " + constant.other)
}

func (pkg *goPackage) defaultJSON(text string) string {
	if strings.HasPrefix(text, "ref(") {
		name := strings.TrimSuffix(strings.TrimPrefix(text, "ref("), ")")
		for _, values := range pkg.consts {
			for _, value := range values {
				if value.name == name {
					return fmt.Sprintf("%q", value.value)
				}
			}
		}
		panic("no constant " + name)
	}
	var buffer bytes.Buffer
	check(json.Compact(&buffer, []byte(text)))
	return buffer.String()
}

// stage matches the marker of a rule that is not stable yet.
var stage = regexp.MustCompile(`^(alpha|beta)\(since: "[0-9.]+"\)=\+k8s:`)

// rules writes the declarative validation tags, one a line.
func rules(out *strings.Builder, tags []string, indent string) {
	for _, tag := range tags {
		rule, ok := strings.CutPrefix(tag, "k8s:")
		if !ok {
			continue
		}
		skip := false
		for _, prefix := range []string{"deepcopy", "openapi", "prerelease", "conversion", "defaulter", "protobuf", "validation", "supportsSubresource", "opaqueType", "enum"} {
			if strings.HasPrefix(rule, prefix) {
				skip = true
			}
		}
		if !skip {
			fmt.Fprintf(out, "%s! %s\n", indent, stage.ReplaceAllString(rule, "$1:"))
		}
	}
}

func (w *world) compare(typ, field, what string, source, documented any) {
	if !reflect.DeepEqual(source, documented) {
		w.differences = append(w.differences, fmt.Sprintf("%s.%s: %s is %v in types.go, %v in OpenAPI", typ, field, what, source, documented))
	}
}

func compact(value any) string {
	text, err := json.Marshal(value)
	check(err)
	return string(text)
}

func contains(list []string, item string) bool {
	for _, each := range list {
		if each == item {
			return true
		}
	}
	return false
}

func hasTag(tags []string, tag string) bool { return contains(tags, tag) }

func tagValue(tags []string, name string) string {
	if values := tagValues(tags, name); len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func tagValues(tags []string, name string) (values []string) {
	for _, tag := range tags {
		if value, ok := strings.CutPrefix(tag, name+"="); ok {
			values = append(values, value)
		}
	}
	return values
}
