package box

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"boxrun/launcher/fault"
	"boxrun/launcher/files"
	"boxrun/netsetup/small"
)

// stateVersion is the version of the state files. The version rises when an older boxrun would misread a new file.
const stateVersion = 1

// envelope is the content of a state file.
type envelope struct {
	Version int             `json:"version"`
	State   json.RawMessage `json:"state"`
}

// filled is an envelope with a state that is to be written, or read.
type filled struct {
	Version int `json:"version"`
	State   any `json:"state"`
}

// WriteJSON saves v as the state file path, readable by everyone. A concurrent reader sees the old or the new state,
// never a part. If writing fails (a full disk), the old state stays. WriteJSON makes a missing directory. The caller
// holds the lock of the file's subject. Nothing is synced: /run does not outlive the kernel.
func WriteJSON(path string, v any) error {
	state, err := json.MarshalIndent(filled{stateVersion, v}, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = files.ReplaceFile(path, append(state, '\n'), 0o644)
	}
	return fault.Wrap("writing state file "+path, err)
}

// ReadJSON reads the state file path into v. Every error names the file. The error is os.ErrNotExist for a missing file, and
// ErrUnreadable for a file without a state. ReadJSON refuses a file cut short or of another version. A key unknown to v is
// refused too, because this boxrun would drop the key in the next save.
func ReadJSON(path string, v any) error {
	text, err := small.Read(path)
	if err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	if err := DecodeState(text, v); err != nil {
		return &fault.Problem{Kind: ErrUnreadable, Text: fmt.Sprintf("state file %s %v", path, err)}
	}
	return nil
}

// DecodeState reads the text of a state file into v. The error's text follows the file's name.
func DecodeState(text []byte, v any) error {
	if decodeAtOnce(text, v) {
		return nil
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if e.Version != stateVersion {
		return fmt.Errorf("is of version %d, this boxrun reads %d", e.Version, stateVersion)
	}
	if string(e.State) == "null" {
		return errors.New("holds no state")
	}
	d := json.NewDecoder(bytes.NewReader(e.State))
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return errors.New("holds no state")
	case err != nil:
		return fmt.Errorf("cannot be read: %w", err)
	}
	return nil
}

// decodeAtOnce is DecodeState where there is nothing to complain of, in half the time: it reads the envelope and the state
// in it by the same pass. A text in which the word "state" is missing would leave v as it is, and so does every other
// text that is not whole.
func decodeAtOnce(text []byte, v any) bool {
	read := reflect.New(reflect.TypeOf(v).Elem())
	e := filled{State: read.Interface()}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	whole := bytes.Contains(text, []byte(`"state"`)) && d.Decode(&e) == nil && e.Version == stateVersion && e.State != nil &&
		len(bytes.TrimSpace(text[d.InputOffset():])) == 0
	if whole {
		reflect.ValueOf(v).Elem().Set(read.Elem())
	}
	return whole
}
