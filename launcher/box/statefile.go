package box

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"boxrun/launcher/files"
)

// stateVersion is that of the state files. It is raised whenever an older boxrun would read a new file wrongly.
const stateVersion = 1

// envelope is what a state file holds.
type envelope struct {
	Version int             `json:"version"`
	State   json.RawMessage `json:"state"`
}

// WriteJSON saves v as the state file path, readable by everyone. Whoever reads meanwhile sees the old or the new
// state, never a part; where writing fails (a full disk) the old one stays. The directory is made where it is missing.
// The caller holds the lock of what the file is about. Nothing is synced: /run does not outlive the kernel.
func WriteJSON(path string, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing state file %s: %w", path, err)
	}
	text, err := json.MarshalIndent(envelope{stateVersion, state}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing state file %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing state file %s: %w", path, err)
	}
	if err := files.ReplaceFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing state file %s: %w", path, err)
	}
	return nil
}

// ReadJSON reads the state file path into v. Every error names the file: os.ErrNotExist where it is absent; a file cut
// short, of another version, or with a key that v has no place for (which this boxrun would drop when it saves) is
// refused.
func ReadJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	if err := DecodeState(text, v); err != nil {
		return fmt.Errorf("state file %s %w", path, err)
	}
	return nil
}

// DecodeState reads the text of a state file into v. The error goes behind the file's name.
func DecodeState(text []byte, v any) error {
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if e.Version != stateVersion {
		return fmt.Errorf("is of version %d, this boxrun reads %d", e.Version, stateVersion)
	}
	d := json.NewDecoder(bytes.NewReader(e.State))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return errors.New("holds no state")
	}
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	return nil
}
