package main

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// flow sends to address by tcp for a time, and prints how many Gbit a second went.
func flow(address string, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe flow ADDR TIME")
	}
	during, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	piece, sent, began := make([]byte, 128<<10), 0, time.Now()
	if err := conn.SetDeadline(began.Add(during + patience)); err != nil {
		return err
	}
	for time.Since(began) < during {
		n, err := conn.Write(piece)
		if err != nil {
			return err
		}
		sent += n
	}
	fmt.Printf("%.3f\n", float64(sent)*8/1e9/time.Since(began).Seconds())
	return nil
}
