package main

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/godbus/dbus/v5"
)

// message returns a message of D-Bus of a kind: 2 is a reply, 3 an error, 4 a signal. A size other than 0 is what the
// header says of the body, and there is no body. Without size the body is a text of control bytes.
func message(kind byte, size uint32, replyTo *uint32) []byte {
	serial := uint32(1)
	if replyTo != nil {
		serial = *replyTo
	}
	m := dbus.Message{Type: dbus.Type(kind), Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(serial),
		dbus.FieldErrorName:   dbus.MakeVariant("org.freedesktop.DBus.Error.Failed"),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
		dbus.FieldInterface:   dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		dbus.FieldMember:      dbus.MakeVariant("StartupFinished"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf("")),
	}, Body: []any{strings.ToValidUTF8(nasty, "?")}}
	var out bytes.Buffer
	if err := m.EncodeTo(&out, binary.LittleEndian); err != nil {
		panic(err) // a mistake of this program
	}
	text := out.Bytes()
	if size != 0 {
		binary.LittleEndian.PutUint32(text[4:], size)
	}
	return text
}
