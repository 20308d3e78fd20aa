package diffcmd

import (
	"encoding/json"
	"fmt"
	"io"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/imagediff"
)

// jsonList prints a JSON object with all changes, one a line, as they are found.
type jsonList struct {
	w    io.Writer
	some bool
}

func (j *jsonList) change(c imagediff.Change) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return j.write("\n", data)
}

// write begins the list, or goes on with it, and writes an element.
func (j *jsonList) write(before string, element []byte) error {
	start := "," + before
	if !j.some {
		start = `{"changes":[` + before
	}
	j.some = true
	_, err := io.WriteString(j.w, start+string(element))
	return err
}

func (j *jsonList) end(total imagediff.Sum, same int) error {
	if !j.some {
		if err := j.write("", nil); err != nil {
			return err
		}
	}
	data, err := json.Marshal(total)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.w, "],\n\"total\":%s,\n\"same\":%d}\n", data, same)
	return err
}

// jsonSums prints a JSON object with the sums of all directories.
type jsonSums struct {
	w    io.Writer
	sums imagediff.Directories
}

func (j *jsonSums) change(c imagediff.Change) error {
	j.sums.Add(c)
	return nil
}

func (j *jsonSums) end(total imagediff.Sum, same int) error {
	return command.JSON(j.w, struct {
		Directories []imagediff.DirectorySum `json:"directories"`
		Total       imagediff.Sum            `json:"total"`
		Same        int                      `json:"same"`
	}{j.sums.All(), total, same})
}
