// Command fuzz prints objects of every registered kind with zero, nil, empty and random values, as Go's own codecs
// see them: one JSON line an object. Run by src/api/codec/fuzz.rs; the seed is its argument.
//
// input: every field written out, zero values and nulls too. json: what Go prints after decoding input.
// wire: json's object as protobuf (base64). again: what Go prints after decoding wire.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	kjson "sigs.k8s.io/json"
)

type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

type line struct {
	Group, Version, Kind, Mode string
	Input, JSON, Again         string
	Wire                       []byte
}

func main() {
	seed, err := strconv.ParseInt(os.Args[1], 10, 64)
	check(err)
	check(apiextensions.AddToScheme(scheme.Scheme))
	check(apiregistration.AddToScheme(scheme.Scheme))
	kinds := []schema.GroupVersionKind{}
	for kind := range scheme.Scheme.AllKnownTypes() {
		if kind.Version != runtime.APIVersionInternal {
			kinds = append(kinds, kind)
		}
	}
	sort.Slice(kinds, func(i, j int) bool { return kinds[i].String() < kinds[j].String() })
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for _, kind := range kinds {
		for _, mode := range []string{"zero", "empty", "element", "random", "random", "random"} {
			filler := &filler{mode: mode, random: rand.New(rand.NewSource(seed))}
			seed++
			object, err := scheme.Scheme.New(kind)
			check(err)
			if _, ok := object.(message); !ok {
				continue
			}
			filler.fill(reflect.ValueOf(object).Elem(), 0)
			var input bytes.Buffer
			everything(&input, reflect.ValueOf(object).Elem())
			decoded, err := scheme.Scheme.New(kind)
			check(err)
			if err := kjson.UnmarshalCaseSensitivePreserveInts(input.Bytes(), decoded); err != nil {
				check(fmt.Errorf("%s: %w: %s", kind, err, input.String()))
			}
			text, err := json.Marshal(decoded)
			check(err)
			// What was printed is what is encoded: an empty []byte that omitempty left out is nil from here on.
			printed, err := scheme.Scheme.New(kind)
			check(err)
			check(kjson.UnmarshalCaseSensitivePreserveInts(text, printed))
			wire, err := printed.(message).Marshal()
			check(err)
			again, err := scheme.Scheme.New(kind)
			check(err)
			check(again.(message).Unmarshal(wire))
			last, err := json.Marshal(again)
			check(err)
			check(encoder.Encode(line{kind.Group, kind.Version, kind.Kind, mode, input.String(), string(text), string(last), wire}))
		}
	}
}

type filler struct {
	mode   string
	random *rand.Rand
}

// choose gives 0 for nil, 1 for empty or zero, 2 for an element.
func (f *filler) choose(depth int) int {
	switch {
	case depth > 7 || f.mode == "zero":
		return 0
	case f.mode == "empty":
		return 1
	case f.mode == "element":
		return 2
	}
	return f.random.Intn(3)
}

func (f *filler) fill(value reflect.Value, depth int) {
	if f.special(value, depth) {
		return
	}
	switch value.Kind() {
	case reflect.Pointer:
		if f.choose(depth) > 0 {
			value.Set(reflect.New(value.Type().Elem()))
			f.fill(value.Elem(), depth+1)
		}
	case reflect.Struct:
		for i := 0; i < value.NumField(); i++ {
			if value.Field(i).CanSet() && value.Type().Field(i).Name != "TypeMeta" {
				f.fill(value.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		switch f.choose(depth) {
		case 1:
			value.Set(reflect.MakeSlice(value.Type(), 0, 0))
		case 2:
			value.Set(reflect.MakeSlice(value.Type(), 2, 2))
			f.fill(value.Index(1), depth+1)
		}
	case reflect.Map:
		switch f.choose(depth) {
		case 1:
			value.Set(reflect.MakeMap(value.Type()))
		case 2:
			value.Set(reflect.MakeMap(value.Type()))
			for _, key := range []string{"b", "", "a"} {
				item := reflect.New(value.Type().Elem()).Elem()
				if key != "" {
					f.fill(item, depth+1)
				}
				value.SetMapIndex(reflect.ValueOf(key).Convert(value.Type().Key()), item)
			}
		}
	case reflect.String:
		if f.mode == "random" {
			value.SetString([]string{"", "a", "ü<&>\u2028\"\\\n", "2"}[f.random.Intn(4)])
		}
	case reflect.Bool:
		value.SetBool(f.mode == "random" && f.random.Intn(2) == 1)
	case reflect.Int32, reflect.Int64:
		if f.mode == "random" {
			value.SetInt([]int64{0, 1, -1, 1<<31 - 1, -1 << 31}[f.random.Intn(5)])
		}
	case reflect.Float64:
		if f.mode == "random" {
			value.SetFloat([]float64{0, 1, 1.5, -3}[f.random.Intn(4)])
		}
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		if f.mode == "random" {
			value.SetUint([]uint64{0, 1, 200}[f.random.Intn(3)])
		}
	case reflect.Interface:
	default:
		panic(value.Kind().String())
	}
}

// special fills types with a JSON form of their own.
func (f *filler) special(value reflect.Value, depth int) bool {
	random := f.mode == "random"
	pick := func(count int) int {
		if !random {
			return 0
		}
		return f.random.Intn(count)
	}
	switch target := value.Addr().Interface().(type) {
	case *metav1.Time:
		*target = []metav1.Time{{}, metav1.Unix(1234567890, 0), metav1.Unix(-1, 0)}[pick(3)]
	case *metav1.MicroTime:
		*target = []metav1.MicroTime{{}, metav1.NewMicroTime(time.Unix(1234567890, 123456789)), metav1.NewMicroTime(time.Unix(5, 0))}[pick(3)]
	case *metav1.Duration:
		target.Duration = []time.Duration{0, time.Hour, 1500 * time.Millisecond, -3, 2 * time.Microsecond}[pick(5)]
	case *resource.Quantity:
		if text := []string{"", "0", "1Gi", "100m", "1500m", "0.5", "1e3", "12345678901234567890", "-5Ki"}[pick(9)]; text != "" {
			*target = resource.MustParse(text)
		}
	case *intstr.IntOrString:
		*target = []intstr.IntOrString{{}, intstr.FromInt32(80), intstr.FromString(""), intstr.FromString("50%")}[pick(4)]
	case *runtime.RawExtension:
		target.Raw = [][]byte{nil, []byte(`{"a":[1,null,{"b":"c"}]}`), []byte(`{}`)}[pick(3)]
	case *metav1.FieldsV1:
		// A non-nil pointer to nothing prints as null; decoded it is a nil pointer.
		target.SetRawBytes([]byte(`{"f:a":{}}`))
	case *apiextensions.JSON:
		target.Raw = [][]byte{[]byte(`1`), []byte(`"x"`), []byte(`{"a":{}}`)}[pick(3)]
	case *apiextensions.JSONSchemaPropsOrBool:
		target.Allows = pick(2) == 1
		if f.choose(depth) == 2 {
			target.Allows, target.Schema = true, &apiextensions.JSONSchemaProps{}
			f.fill(reflect.ValueOf(target.Schema).Elem(), depth+1)
		}
	case *apiextensions.JSONSchemaPropsOrArray:
		target.Schema = &apiextensions.JSONSchemaProps{}
		if pick(2) == 1 {
			target.Schema, target.JSONSchemas = nil, make([]apiextensions.JSONSchemaProps, 2)
		}
	case *apiextensions.JSONSchemaPropsOrStringArray:
		target.Schema = &apiextensions.JSONSchemaProps{}
		if pick(2) == 1 {
			target.Schema, target.Property = nil, []string{"a", ""}
		}
	default:
		return false
	}
	return true
}

// everything prints a value with all its fields, also those that omitempty would leave out.
func everything(out *bytes.Buffer, value reflect.Value) {
	if value.Kind() == reflect.Pointer && !value.IsNil() {
		everything(out, value.Elem())
		return
	}
	_, own := value.Interface().(json.Marshaler)
	if value.CanAddr() && !own {
		_, own = value.Addr().Interface().(json.Marshaler)
	}
	switch {
	case !own && value.Kind() == reflect.Struct:
		out.WriteByte('{')
		members(out, value, true)
		out.WriteByte('}')
	case !own && value.Kind() == reflect.Slice && !value.IsNil() && value.Type().Elem().Kind() != reflect.Uint8:
		out.WriteByte('[')
		for i := 0; i < value.Len(); i++ {
			if i > 0 {
				out.WriteByte(',')
			}
			everything(out, value.Index(i))
		}
		out.WriteByte(']')
	case !own && value.Kind() == reflect.Map && !value.IsNil():
		out.WriteByte('{')
		for i, key := range value.MapKeys() {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(out, "%q:", key.String())
			everything(out, value.MapIndex(key))
		}
		out.WriteByte('}')
	default:
		text, err := json.Marshal(value.Interface())
		check(err)
		out.Write(text)
	}
}

func members(out *bytes.Buffer, value reflect.Value, first bool) bool {
	for i := 0; i < value.NumField(); i++ {
		field := value.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if name == "" && (field.Anonymous || strings.Contains(options, "inline")) {
			first = members(out, value.Field(i), first)
			continue
		}
		if name == "" {
			name = field.Name
		}
		if !first {
			out.WriteByte(',')
		}
		first = false
		fmt.Fprintf(out, "%q:", name)
		everything(out, value.Field(i))
	}
	return first
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
