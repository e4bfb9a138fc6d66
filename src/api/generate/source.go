// Reads Go packages of the API with Go's own parser: structs, named scalars, constants and comment tags.
package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// goPackage is one parsed directory.
type goPackage struct {
	path, name, prefix, group, version string
	types                              map[string]*goType
	order                              []string
	consts                             map[string][]constValue // by type name
	protos                             map[string]*protoMessage
}

type goType struct {
	pkg      *goPackage
	name     string
	fields   []*goField // structs
	isStruct bool
	expr     ast.Expr // everything else
	imports  map[string]string
	tags     []string
	doc      string
}

type goField struct {
	name, json, doc              string
	inline, omitempty, omitzero  bool
	pointer                      bool
	expr                         ast.Expr
	protoName                    string
	number                       int // from the struct tag; -1 when it has none
	patchStrategy, patchMergeKey string
	tags                         []string
}

// constValue is the value of a constant, or the name of the other package's constant that it converts.
type constValue struct{ name, value, other string }

func commentTags(groups ...*ast.CommentGroup) (tags []string, doc string) {
	for _, group := range groups {
		if group == nil {
			continue
		}
		for _, comment := range group.List {
			line := strings.TrimSpace(strings.TrimPrefix(comment.Text, "//"))
			if strings.HasPrefix(line, "+") {
				tags = append(tags, strings.TrimPrefix(line, "+"))
			} else {
				doc += line + "\n"
			}
		}
	}
	return tags, doc
}

// parsePackage reads one directory. Comments that stand directly above a doc comment, separated by a blank
// line, carry tags too (gengo reads both), so they are found by position.
func parsePackage(dir, path, prefix string) *goPackage {
	pkg := &goPackage{path: path, prefix: prefix, types: map[string]*goType{}, consts: map[string][]constValue{}}
	pkg.version = filepath.Base(path)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	check(err)
	strs := map[string]string{}
	fset := token.NewFileSet()
	for _, file := range files {
		base := filepath.Base(file)
		if strings.HasSuffix(base, "_test.go") || strings.HasSuffix(base, ".pb.go") || strings.HasPrefix(base, "types_swagger") || strings.HasPrefix(base, "zz_generated") {
			continue
		}
		tree, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		check(err)
		pkg.name = tree.Name.Name
		imports := map[string]string{}
		for _, spec := range tree.Imports {
			target, _ := strconv.Unquote(spec.Path.Value)
			name := filepath.Base(target)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			imports[name] = target
		}
		ends := map[int]*ast.CommentGroup{}
		for _, group := range tree.Comments {
			ends[fset.Position(group.End()).Line] = group
		}
		above := func(doc *ast.CommentGroup, pos token.Pos) *ast.CommentGroup {
			line := fset.Position(pos).Line
			if doc != nil {
				line = fset.Position(doc.Pos()).Line
			}
			return ends[line-2]
		}
		for _, decl := range tree.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					doc := spec.Doc
					if doc == nil {
						doc = gen.Doc
					}
					tags, text := commentTags(above(doc, spec.Pos()), doc)
					typ := &goType{pkg: pkg, name: spec.Name.Name, imports: imports, tags: tags, doc: text}
					if structure, ok := spec.Type.(*ast.StructType); ok {
						typ.isStruct = true
						typ.fields = structFields(structure)
					} else {
						typ.expr = spec.Type
					}
					pkg.types[typ.name] = typ
					pkg.order = append(pkg.order, typ.name)
				case *ast.ValueSpec:
					if gen.Tok != token.CONST && gen.Tok != token.VAR {
						continue
					}
					for i, name := range spec.Names {
						if i >= len(spec.Values) {
							continue
						}
						value, ok := stringConstant(spec.Values[i], strs)
						other := ""
						if !ok {
							if other = convertedConstant(spec.Values[i]); other == "" || gen.Tok != token.CONST {
								continue
							}
						} else if gen.Tok == token.CONST {
							strs[name.Name] = value
						}
						if name.Name == "GroupName" {
							pkg.group = value
						}
						typeName := ""
						if ident, ok := spec.Type.(*ast.Ident); ok {
							typeName = ident.Name
						} else if call, ok := spec.Values[i].(*ast.CallExpr); ok {
							if ident, ok := call.Fun.(*ast.Ident); ok {
								typeName = ident.Name
							}
						}
						if typeName != "" && gen.Tok == token.CONST {
							pkg.consts[typeName] = append(pkg.consts[typeName], constValue{name.Name, value, other})
						}
					}
				}
			}
		}
	}
	sort.Strings(pkg.order)
	pkg.protos = parseProto(filepath.Join(dir, "generated.proto"))
	return pkg
}

func stringConstant(expr ast.Expr, known map[string]string) (string, bool) {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		if expr.Kind == token.STRING {
			return constant.StringVal(constant.MakeFromLiteral(expr.Value, expr.Kind, 0)), true
		}
	case *ast.CallExpr:
		if len(expr.Args) == 1 {
			return stringConstant(expr.Args[0], known)
		}
	case *ast.Ident:
		value, ok := known[expr.Name]
		return value, ok
	case *ast.BinaryExpr:
		left, ok := stringConstant(expr.X, known)
		right, also := stringConstant(expr.Y, known)
		return left + right, ok && also
	}
	return "", false
}

// convertedConstant is the name of the constant of another package in T(package.Name).
func convertedConstant(expr ast.Expr) string {
	if call, ok := expr.(*ast.CallExpr); ok && len(call.Args) == 1 {
		if selector, ok := call.Args[0].(*ast.SelectorExpr); ok {
			return selector.Sel.Name
		}
	}
	return ""
}

func structFields(structure *ast.StructType) []*goField {
	var fields []*goField
	for _, node := range structure.Fields.List {
		if node.Tag == nil {
			if len(node.Names) > 0 && !ast.IsExported(node.Names[0].Name) {
				continue
			}
			if len(node.Names) == 0 {
				continue // embedded without a tag: markers of generated protobuf only
			}
		}
		var tag reflect.StructTag
		if node.Tag != nil {
			text, _ := strconv.Unquote(node.Tag.Value)
			tag = reflect.StructTag(text)
		}
		field := &goField{number: -1}
		field.tags, field.doc = commentTags(node.Doc, node.Comment)
		json := strings.Split(tag.Get("json"), ",")
		field.json = json[0]
		for _, option := range json[1:] {
			switch option {
			case "inline":
				field.inline = true
			case "omitempty":
				field.omitempty = true
			case "omitzero":
				field.omitzero = true
			default:
				panic("json option " + option)
			}
		}
		if field.json == "-" {
			continue
		}
		if len(node.Names) == 0 && field.json == "" {
			field.inline = true
		}
		if len(node.Names) > 0 {
			field.name = node.Names[0].Name
			if field.json == "" && !field.inline {
				field.json = field.name
			}
		}
		if wire := strings.Split(tag.Get("protobuf"), ","); len(wire) > 1 {
			number, err := strconv.Atoi(wire[1])
			check(err)
			field.number = number
			for _, option := range wire[2:] {
				if name, ok := strings.CutPrefix(option, "name="); ok {
					field.protoName = name
				}
			}
		}
		field.patchStrategy = tag.Get("patchStrategy")
		field.patchMergeKey = tag.Get("patchMergeKey")
		field.expr = node.Type
		if star, ok := node.Type.(*ast.StarExpr); ok {
			field.pointer = true
			field.expr = star.X
		}
		fields = append(fields, field)
	}
	return fields
}

// protoMessage holds field numbers by name; repeated marks `items`-only wrappers of named lists.
type protoMessage struct {
	numbers map[string]int
}

func parseProto(file string) map[string]*protoMessage {
	content, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	check(err)
	messages := map[string]*protoMessage{}
	var current *protoMessage
	for _, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "message ") {
			current = &protoMessage{numbers: map[string]int{}}
			messages[strings.Fields(line)[1]] = current
			continue
		}
		if current == nil || strings.HasPrefix(line, "//") || !strings.HasSuffix(line, ";") {
			continue
		}
		for _, start := range []string{"optional ", "repeated ", "map<", "required "} {
			if strings.HasPrefix(line, start) {
				words := strings.Fields(strings.TrimSuffix(line, ";"))
				number, err := strconv.Atoi(words[len(words)-1])
				check(err)
				current.numbers[words[len(words)-3]] = number
			}
		}
	}
	return messages
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
