package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Fields are fields of a member that are not for the client to set: whatever an
// open frame has by these names is replaced. They are never changed once made.
type Fields struct {
	fields []field // a nil value: the member has no such field
}

// ParseFields reads a JSON object. It must fit in a member, and have none of the
// names that an open frame uses for itself. An id in it is returned apart.
func ParseFields(text []byte) (Fields, UserID, error) {
	if len(text) > MaxMemberSize {
		return Fields{}, "", fmt.Errorf("a member may have %d bytes of JSON", MaxMemberSize)
	}
	f, err := decodeObject(text)
	if err != nil {
		return Fields{}, "", err
	}
	var out Fields
	var id UserID
	for _, f := range f {
		if f.name == "id" {
			id, err = ParseUserID(f.value)
		} else if err = CheckField(f.name); err == nil {
			err = out.set(f)
		}
		if err != nil {
			return Fields{}, "", err
		}
	}
	return out, id, nil
}

// CheckField reports whether a name can be that of a fixed field.
func CheckField(name string) error {
	switch name {
	case "id":
		return errors.New("the id comes from the identity")
	case "action", "ref", "resume", "device", "beat":
		return fmt.Errorf("an open frame has %q for itself; it cannot be a field of a member", name)
	}
	return nil
}

// SetText fixes a field to a text; an empty one means that the member has no
// such field.
func (f *Fields) SetText(name, text string) error {
	if text == "" {
		return f.set(field{name: name})
	}
	value, err := json.Marshal(text)
	if err != nil {
		return err
	}
	return f.set(field{name, value})
}

func (f *Fields) set(one field) error {
	var s string
	if one.name == "type" && one.value != nil && (json.Unmarshal(one.value, &s) != nil || one.value[0] != '"' || !plainText(s)) {
		return fmt.Errorf("type must be a string of at most %d bytes without control characters", MaxIDLength)
	}
	i := slices.IndexFunc(f.fields, func(other field) bool { return other.name == one.name })
	if i < 0 {
		f.fields = append(f.fields, one)
	} else {
		f.fields[i] = one
	}
	return nil
}

// Merge adds the fields of another, which win.
func (f *Fields) Merge(other Fields) {
	for _, one := range other.fields {
		_ = f.set(one) // checked when it was made
	}
}

// Empty reports whether there are no fields.
func (f Fields) Empty() bool { return len(f.fields) == 0 }

// decodeObject splits a JSON object, which must not have a field twice.
func decodeObject(text []byte) ([]field, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, errors.New("expected a JSON object")
	}
	fields, err := objectFields(compact.Bytes())
	if err != nil {
		return nil, errors.New("expected a JSON object")
	}
	for i := range fields {
		for j := range i {
			if fields[i].name == fields[j].name {
				return nil, fmt.Errorf("field %q is given twice", fields[i].name)
			}
		}
	}
	return fields, nil
}

// fix replaces the fields of an open frame that are not for the client to set.
func (f *Frame) fix(fixed Fields) {
	if fixed.Empty() {
		return
	}
	f.fields = slices.DeleteFunc(f.fields, func(own field) bool {
		return slices.ContainsFunc(fixed.fields, func(fix field) bool { return fix.name == own.name })
	})
	for _, fix := range fixed.fields {
		if fix.value != nil {
			f.fields = append(f.fields, fix)
		}
	}
}
