package main

import (
	"testing"

	"puavo-image-repository/cmd/internal/scripttest"
)

// The command lines of before are taken still.
func TestBeforeCommands(t *testing.T) { scripttest.Before(t, "rdiff", "our-rdiff", 101, nil) }
